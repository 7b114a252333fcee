import { renderToStaticMarkup } from "react-dom/server";
import { expect, it } from "vitest";

import { Markdown } from "./Markdown";

const html = (text: string) => renderToStaticMarkup(<Markdown text={text} />);

it.each([
  "<script>alert(1)</script>",
  "<img src=x onerror=alert(1)>",
  "<svg/onload=alert(1)>",
  "a <b onmouseover=alert(1)>b</b>",
  "<iframe src=https://evil.example></iframe>",
  "<style>*{display:none}</style>",
])("%s stays text", (text) => {
  expect(html(text)).not.toMatch(/<(script|img|svg|iframe|style|b)\b/);
});

it.each([
  "[x](javascript:alert(1))",
  "[x](JaVaScRiPt:alert(1))",
  "[x](java\tscript:alert(1))",
  "[x](data:text/html,<script>alert(1)</script>)",
  "[x](vbscript:msgbox)",
  "![x](javascript:alert(1))",
  "[x][y]\n\n[y]: javascript:alert(1)",
])("%s leads nowhere", (text) => {
  expect(html(text)).not.toContain("href");
});

it("links open elsewhere and tell nothing of where they were", () => {
  expect(html("[x](https://example.org)")).toContain(
    '<a href="https://example.org" target="_blank" rel="noopener noreferrer nofollow">x</a>',
  );
});

it("pictures are not fetched", () => {
  expect(html("![tracker](https://example.org/pixel.png)")).not.toContain("<img");
});

it("code, tables and lists are what they are", () => {
  expect(html("```js\nlet a;\n```")).toContain('<code class="language-js">let a;');
  expect(html("| a |\n|---|\n| 1 |")).toContain("<td>1</td>");
});
