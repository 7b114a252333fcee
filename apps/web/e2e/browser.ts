import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { readFileSync } from "node:fs";

import { chromium, type Browser, type BrowserContext, type Page } from "playwright-core";

const AXE = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
export const DESKTOP = { width: 1280, height: 800 };
export const PHONE = { width: 390, height: 844 };
const PATIENCE_MS = 20_000;

export function launch(): Promise<Browser> {
  return chromium.launch({
    executablePath: process.env["CHROMIUM"] ?? "/usr/bin/chromium",
    // Root in a container has no sandbox of its own to give.
    args: ["--no-sandbox", "--disable-dev-shm-usage"],
  });
}

/** A person with a browser of their own; whatever goes wrong in it unseen is kept for `finish`. */
export class Visitor {
  readonly #context: BrowserContext;
  readonly page: Page;
  readonly #wrong: string[] = [];

  private constructor(context: BrowserContext, page: Page, origin: string) {
    this.#context = context;
    this.page = page;
    page.on("pageerror", (error) => this.#wrong.push(error.message));
    page.on("console", (message) => {
      // A refusal of the API is shown in the page; the browser's own line on it is no news.
      if (message.type() === "error" && !message.text().startsWith("Failed to load resource")) {
        this.#wrong.push(message.text());
      }
    });
    page.on("request", (request) => {
      const url = request.url();
      if (!url.startsWith(origin) && !/^(data|blob):/.test(url)) this.#wrong.push(`a request to ${url}`);
    });
  }

  static async open(browser: Browser, origin: string, viewport = DESKTOP, dark = false): Promise<Visitor> {
    const context = await browser.newContext({
      baseURL: origin,
      viewport,
      colorScheme: dark ? "dark" : "light",
      // What fades in is looked at when it is there.
      reducedMotion: "reduce",
      hasTouch: viewport === PHONE,
      permissions: ["clipboard-read", "clipboard-write"],
    });
    context.setDefaultTimeout(PATIENCE_MS);
    return new Visitor(context, await context.newPage(), origin);
  }

  async signUp(email: string): Promise<void> {
    await this.page.goto("/sign-up");
    await this.page.getByLabel("E-mail address").fill(email);
    await this.page.getByLabel("Password").fill("a rather long password");
    await this.page.getByRole("button", { name: "Create account" }).click();
    await this.page.waitForURL("**/instances");
  }

  /** Creates an instance with a code and waits until one can talk to it. */
  async create(name: string, code: string): Promise<void> {
    await this.page.getByRole("button", { name: "New instance" }).click();
    await this.page.getByLabel("Name").fill(name);
    await this.page.getByLabel("Invite code").fill(code);
    await this.page.getByRole("button", { name: "Create", exact: true }).click();
    await this.page.getByRole("textbox", { name: "Message" }).and(this.page.locator(":enabled")).waitFor({ timeout: 120_000 });
  }

  async ask(text: string): Promise<void> {
    await this.page.getByRole("textbox", { name: "Message" }).fill(text);
    await this.page.keyboard.press("Enter");
  }

  /** Looks for what keeps people out (WCAG 2.2 AA, by axe), and for a page wider than its window. */
  async isFit(): Promise<void> {
    await this.page.evaluate(AXE);
    const found = await this.page.evaluate(async () => {
      const { axe } = window as unknown as { axe: typeof import("axe-core") };
      const { violations } = await axe.run({ runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"] });
      return violations.flatMap(({ id, nodes }) => nodes.map(({ html, failureSummary }) => `${id}: ${html} ${failureSummary ?? ""}`));
    });
    assert.deepEqual(found, [], this.page.url());
    const tooWide = await this.page.evaluate(() =>
      [document.documentElement, ...document.querySelectorAll(".scroller, .lines, .sessions, .dialog")]
        .filter((box) => box.scrollWidth > box.clientWidth)
        .map((box) => box.className || box.tagName),
    );
    assert.deepEqual(tooWide, [], `${this.page.url()} is wider than its window`);
  }

  async finish(): Promise<void> {
    await this.#context.close();
    assert.deepEqual(this.#wrong, []);
  }
}
