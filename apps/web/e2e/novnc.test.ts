import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, test } from "node:test";

import type { Browser, Page } from "playwright-core";

import { launch } from "./browser.ts";
import { OPERATOR, Platform } from "./platform.ts";

const LIBRARY = join(import.meta.dirname, "../node_modules/@novnc/novnc");
const MAIN = `
import RFB from "/novnc/core/rfb.js";
document.body.innerHTML = "<div id=screen style='position:fixed;inset:0'></div>";
export function connect(path) {
  const rfb = new RFB(document.getElementById("screen"), new URL(path, location.href.replace(/^http/, "ws")).href);
  for (const name of ["connect", "disconnect", "securityfailure"]) {
    rfb.addEventListener(name, () => (document.body.dataset.state = name));
  }
}`;

let platform: Platform;
let browser: Browser;
before(async () => {
  [platform, browser] = await Promise.all([Platform.start("real"), launch()]);
});
after(async () => {
  await browser.close();
  await platform.stop();
});

test("noVNC's own library draws the desktop and types into it, and only draws when it may only look", async () => {
  const viewport = { width: 1280, height: 800 };
  const context = await browser.newContext({ baseURL: platform.origin, viewport, bypassCSP: true });
  const call = async (path: string, data: object) => {
    const answer = await context.request.post(path, { data, headers: { origin: platform.origin }, timeout: 130_000 });
    assert.ok(answer.ok(), await answer.text());
    return (await answer.json()) as Record<string, unknown>;
  };
  await call("/api/auth/login", OPERATOR);
  const made = await call("/api/instances?wait=120", { name: "desktop", invite_code: await platform.invite() });
  const instance = `/api/instances/${String(made["id"])}`;
  const files = async () => String((await call(`${instance}/terminal/exec`, { command: "ls ~" }))["stdout"]);

  // The browser brings the cookie of its session, and nothing else.
  const page = await context.newPage();
  await view(page, `${instance}/vnc/ws?view_only=1`);
  await type(page, "touch looked");
  await view(page, `${instance}/vnc/ws`);
  await type(page, "touch typed");
  while (!(await files()).includes("typed")) await page.waitForTimeout(50);
  assert.ok(!(await files()).includes("looked"));
  await context.close();
});

/** Opens a desktop with noVNC's own library, as it comes, on a page of the visitor's origin; returns once it is drawn. */
async function view(page: Page, path: string): Promise<void> {
  await page.route("**/novnc/**", async (route) => {
    const name = new URL(route.request().url()).pathname.replace("/novnc/", "");
    const body = name === "main.js" ? MAIN : await readFile(join(LIBRARY, name));
    return route.fulfill({ contentType: "text/javascript", body });
  });
  // Any page that came over the network: from a made-up one the browser lets nobody speak to this machine.
  await page.goto("/healthz");
  await page.addScriptTag({ type: "module", content: `import { connect } from "/novnc/main.js"; connect("${path}");` });
  await page.locator("body[data-state=connect]").waitFor({ state: "attached" });
  await page.waitForFunction(() => {
    const canvas = document.querySelector("canvas");
    const pixels = canvas?.getContext("2d")?.getImageData(0, 0, canvas.width, canvas.height).data ?? [];
    return new Set(new Uint32Array((pixels as Uint8ClampedArray).buffer)).size > 8;
  });
  const size = await page.locator("canvas").evaluate((canvas: HTMLCanvasElement) => [canvas.width, canvas.height]);
  assert.deepEqual(size, [1280, 800]);
}

/** Types into the terminal that the desktop starts with. */
async function type(page: Page, line: string): Promise<void> {
  await page.locator("canvas").click({ position: { x: 300, y: 200 } });
  await page.keyboard.type(`${line}\n`, { delay: 5 });
}
