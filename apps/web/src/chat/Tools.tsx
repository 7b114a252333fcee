import { Check, ChevronRight, LoaderCircle, X } from "lucide-react";

import type { ToolCall } from "../api/client";

/** The steps of an answer, folded: what was called, with what, and what came of it. */
export function Tools({ tools, isOver }: { tools: ToolCall[]; isOver: boolean }) {
  if (tools.length === 0) return null;
  return (
    <ul className="tools" aria-label="Steps">
      {tools.map((tool) => (
        <li key={tool.id}>
          <details>
            <summary>
              <State tool={tool} isOver={isOver} />
              <strong>{tool.name}</strong>
              <code>{brief(tool.arguments)}</code>
              <ChevronRight className="fold" aria-hidden />
            </summary>
            <h4>Called with</h4>
            <pre>{JSON.stringify(tool.arguments, null, 2)}</pre>
            {tool.output != null && (
              <>
                <h4>{tool.is_error ? "Failed with" : "Answered"}</h4>
                <pre>{tool.output}</pre>
              </>
            )}
          </details>
        </li>
      ))}
    </ul>
  );
}

function State({ tool, isOver }: { tool: ToolCall; isOver: boolean }) {
  if (tool.is_error) return <X className="bad" aria-label="Failed" />;
  if (tool.is_error === false || isOver) return <Check className="good" aria-label="Done" />;
  return <LoaderCircle className="spin" aria-label="Running" />;
}

/** The one argument that says most: a command, a path, a question. */
function brief(args: unknown): string {
  if (typeof args !== "object" || args === null) return "";
  const values = Object.values(args);
  const texts = values.filter((value) => typeof value === "string");
  return (texts[0] ?? (values.length > 0 ? JSON.stringify(args) : "")).replace(/\s+/g, " ").slice(0, 120);
}
