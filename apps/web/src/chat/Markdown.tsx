import { isValidElement, memo, type ReactNode } from "react";
import ReactMarkdown, { type Components } from "react-markdown";
import remarkGfm from "remark-gfm";

import { Copy } from "../ui/Copy";

const PLUGINS = [remarkGfm];

const COMPONENTS: Components = {
  a: ({ href, children }) => <Outward href={href}>{children}</Outward>,
  // A picture of another site would tell that site who reads; the policy refuses it anyway.
  img: ({ src, alt }) => (
    <Outward href={typeof src === "string" ? src : undefined}>{alt !== undefined && alt !== "" ? alt : "image"}</Outward>
  ),
  pre: ({ children }) => {
    const text = textOf(children).replace(/\n$/, "");
    return (
      <div className="code">
        <div className="bar">
          <span>{languageOf(children)}</span>
          <Copy text={text} label="Copy code" />
        </div>
        {/* Scrolls sideways, so the keyboard must reach it. */}
        {/* eslint-disable-next-line jsx-a11y/no-noninteractive-tabindex */}
        <pre tabIndex={0}>{children}</pre>
      </div>
    );
  },
  table: ({ children }) => (
    <div className="wide">
      <table>{children}</table>
    </div>
  ),
};

/**
 * Markdown of an agent. Raw HTML in it stays text, and addresses that are no web or mail addresses are dropped
 * (react-markdown's own rules): what an agent writes is not to be trusted.
 */
export const Markdown = memo(function Markdown({ text }: { text: string }) {
  return (
    <div className="markdown">
      <ReactMarkdown remarkPlugins={PLUGINS} components={COMPONENTS}>
        {text}
      </ReactMarkdown>
    </div>
  );
});

function Outward({ href, children }: { href: string | undefined; children: ReactNode }) {
  // Dropped where the address is not of the web.
  if (!href) return <span>{children}</span>;
  return (
    <a href={href} target="_blank" rel="noopener noreferrer nofollow">
      {children}
    </a>
  );
}

function textOf(node: ReactNode): string {
  if (typeof node === "string" || typeof node === "number") return String(node);
  if (Array.isArray(node)) return node.map(textOf).join("");
  return isValidElement<{ children?: ReactNode }>(node) ? textOf(node.props.children) : "";
}

function languageOf(node: ReactNode): string {
  if (!isValidElement<{ className?: string }>(node)) return "";
  return /language-([\w+#-]+)/.exec(node.props.className ?? "")?.[1] ?? "";
}
