import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { after, before, test } from "node:test";

import type { Browser, Page } from "playwright-core";

import { launch, PHONE, Visitor } from "./browser.ts";
import { Platform } from "./platform.ts";

let platform: Platform;
let browser: Browser;
let ada: Visitor;
/** Of an API key and of the instance, for all tests. */
let key = "";
let id = "";
before(async () => {
  [platform, browser] = await Promise.all([Platform.start("real"), launch()]);
});
after(async () => {
  await ada.finish();
  await browser.close();
  await platform.stop();
});

/** Asks the API as a script does. */
function call(path: string, init: { method?: string; body?: string } = {}): Promise<Response> {
  const headers = { authorization: `Bearer ${key}`, "content-type": "application/json" };
  return fetch(`${platform.origin}/api${path}`, { ...init, headers });
}

const content = (path: string) => `/instances/${id}/files/content?path=${encodeURIComponent(path)}`;
const store = async (path: string, body: string) => assert.ok((await call(content(path), { method: "PUT", body })).ok);

/** Asks for a long answer of words of one's own, reloads in its middle, and gets all of it. */
async function reloadsInTheMiddle(visitor: Visitor, word: string): Promise<void> {
  const { page } = visitor;
  // The demo model speaks them for seconds.
  const words = Array.from({ length: 250 }, (_, n) => `${word}${n + 1}`);
  const answer = page.getByRole("article", { name: "Answer" }).filter({ hasText: `${word}20 ` });
  const heard = async () => ((await answer.textContent()) ?? "").match(new RegExp(`${word}\\d+`, "g")) ?? [];
  await visitor.ask(words.join(" "));
  await answer.waitFor({ timeout: 60_000 });
  assert.ok((await heard()).length < words.length, "it is not over yet");
  await page.reload();
  await answer.getByText(`${word}250`).waitFor({ timeout: 60_000 });
  assert.deepEqual(await heard(), words, "each word is there once");
}

async function upload(page: Page, name: string, text: string): Promise<void> {
  const [chooser] = await Promise.all([page.waitForEvent("filechooser"), page.getByRole("button", { name: "Upload" }).click()]);
  await chooser.setFiles({ name, mimeType: "text/plain", buffer: Buffer.from(text) });
}

test("from nothing to a streamed answer of the real OpenClaw, in the browser and with a key", async () => {
  ada = await Visitor.open(browser, platform.origin);
  const { page } = ada;
  await ada.signUp("ada@example.org");
  await page.goto("/account/invites");
  await page.getByLabel("Code").fill(await platform.invite());
  await page.getByRole("button", { name: "Redeem" }).click();
  await page.getByText("One instance on the").waitFor();

  await page.goto("/account/keys");
  await page.getByRole("button", { name: "New key" }).click();
  await page.getByLabel("Name").fill("script");
  await page.getByRole("button", { name: "Create key" }).click();
  key = (await page.getByLabel("Secret of script").textContent()) ?? "";
  await page.getByRole("button", { name: "Done" }).click();

  await page.getByRole("link", { name: "Instances", exact: true }).click();
  await page.getByRole("button", { name: "New instance" }).click();
  await page.getByLabel("Name").fill("real");
  assert.equal(await page.getByLabel("Invite code").count(), 0, "a redeemed code is enough");
  await page.getByRole("button", { name: "Create", exact: true }).click();
  await page.getByRole("textbox", { name: "Message" }).and(page.locator(":enabled")).waitFor({ timeout: 240_000 });

  await ada.ask("Hello from the browser");
  const answers = page.getByRole("article", { name: "Answer" });
  await answers.first().getByText("Hello from the browser").waitFor({ timeout: 60_000 });
  await ada.ask("/run echo made by $((6 * 7))");
  await answers.nth(1).getByText("exec").first().waitFor({ timeout: 60_000 });
  await answers.nth(1).getByText("made by 42").last().waitFor({ timeout: 60_000 });
  await reloadsInTheMiddle(ada, "coral");
  await answers.nth(1).getByText("made by 42").last().waitFor();

  id = /inst_\w+/.exec(page.url())?.[0] ?? "";
  const asked = await call(`/instances/${id}/chat`, { method: "POST", body: JSON.stringify({ message: "Hello from a script" }) });
  assert.equal(asked.status, 200);
  // What a script says is seen at once by whoever looks.
  await page.getByRole("article", { name: "You" }).getByText("Hello from a script").waitFor();
  await ada.isFit();

});

test("files are written, and nothing is lost unasked", async () => {
  const { page } = ada;
  await page.getByRole("link", { name: "Files", exact: true }).click();
  await page.waitForFunction(() => document.title.startsWith("Files"));
  await upload(page, "notes.md", "# Notes\n");
  await ada.isFit();
  await page.getByRole("link", { name: "notes.md" }).click();
  await page.getByRole("textbox", { name: "notes.md" }).press("Control+End");
  await page.keyboard.type("from the browser");
  await page.getByRole("button", { name: "Save" }).click();
  await page.getByText("Saved.").first().waitFor();
  await ada.isFit();
  assert.equal(await (await call(content("/workspace/notes.md"))).text(), "# Notes\nfrom the browser");
  // Written by somebody else meanwhile.
  await store("/workspace/notes.md", "theirs");
  await page.getByRole("textbox", { name: "notes.md" }).press("Control+End");
  await page.keyboard.type(", again");
  await page.getByRole("button", { name: "Save" }).click();
  await page.getByText("The file was changed meanwhile.").waitFor();
  await page.getByRole("button", { name: "Take theirs" }).click();
  await page.getByText("theirs", { exact: true }).waitFor();
  // Deleted by somebody else, and the instance's answer lost: what is being written stays.
  await page.getByRole("textbox", { name: "notes.md" }).press("Control+End");
  await page.keyboard.type(" and mine");
  await call(`/instances/${id}/files?path=/workspace/notes.md`, { method: "DELETE" });
  await page.evaluate(() => window.dispatchEvent(new Event("visibilitychange")));
  await page.getByText("theirs and mine").waitFor();
  await page.getByRole("button", { name: "Save" }).click();
  await page.getByRole("button", { name: "Keep mine" }).click();
  await page.getByText("Saved.").first().waitFor();

  await page.getByRole("link", { name: "workspace" }).click();
  await upload(page, "notes.md", "mine");
  await page.getByText("is there already.").waitFor();
  await ada.isFit();
  await page.getByRole("button", { name: "Keep both" }).click();
  await page.getByRole("link", { name: "notes (2).md" }).waitFor();
  await upload(page, "notes.md", "newest");
  await page.getByRole("button", { name: "Replace" }).click();
  await page.getByText("is there already.").waitFor({ state: "detached" });
  assert.equal(await (await call(content("/workspace/notes (2).md"))).text(), "mine");
  await page.getByRole("button", { name: "New file" }).click();
  await page.getByLabel("Name").fill("notes.md");
  await page.getByRole("button", { name: "Create" }).click();
  await page.getByText("There is one of this name already.").waitFor();
  await page.keyboard.press("Escape");
  assert.equal(await (await call(content("/workspace/notes.md"))).text(), "newest");

  await page.getByRole("button", { name: "Actions for notes.md" }).click();
  const [saved] = await Promise.all([page.waitForEvent("download"), page.getByRole("menuitem", { name: "Download" }).click()]);
  assert.equal(await readFile(await saved.path(), "utf8"), "newest");
  const [archive] = await Promise.all([
    page.waitForEvent("download"),
    page.getByRole("button", { name: "Download as an archive" }).click(),
  ]);
  assert.match(archive.suggestedFilename(), /\.zip$/);

  // Found by its text, at its line; and by its name.
  await store("/workspace/deep/long.txt", `${"line\n".repeat(300)}a needle\n`);
  await page.getByRole("button", { name: "Search in files" }).click();
  await page.getByLabel("What to look for").fill("needle");
  await page.keyboard.press("Enter");
  await page.getByRole("link", { name: "long.txt:301" }).click();
  await page.locator(".cm-activeLine", { hasText: "a needle" }).waitFor();
  await page.goBack();
  await page.getByRole("button", { name: "Search in files" }).click();
  await page.getByLabel("What to look for").fill("LONG");
  await page.getByLabel("Where to look").selectOption("File names");
  await page.keyboard.press("Enter");
  await page.getByRole("button", { name: "Search", exact: true }).click();
  await page.getByRole("link", { name: "/workspace/deep/long.txt" }).waitFor();
  await ada.isFit();
});

/** Whatever of this runs leaves a mark, or asks the API for something that nobody asks for. */
const SCRIPT = `
  try { window.name = "ran"; } catch {}
  try { top.ran = document.cookie + "ran"; } catch {}
  fetch("/api/keys?ran=1"); new Image().src = "/api/keys?ran=2";`;
const HOSTILE = {
  "evil.html": `<!doctype html><script>${SCRIPT}</script><form action="/api/keys?ran=3" id="f"></form><script>f.submit()</script>`,
  "evil.svg": `<svg xmlns="http://www.w3.org/2000/svg" width="40" height="40" onload="top.ran = 1"><script>${SCRIPT.replaceAll("&", "&amp;")}</script><rect width="40" height="40" fill="#f00"/></svg>`,
  "evil.pdf": `%PDF-1.4
1 0 obj<</Type/Catalog/Pages 2 0 R/OpenAction<</S/JavaScript/JS(app.launchURL("/api/keys?ran=4");)>>>>endobj
2 0 obj<</Type/Pages/Kids[3 0 R]/Count 1>>endobj
3 0 obj<</Type/Page/Parent 2 0 R/MediaBox[0 0 99 99]>>endobj
trailer<</Root 1 0 R>>`,
};

test("what a tenant stores runs nothing on our origin, however it is opened", async () => {
  const page = await ada.page.context().newPage();
  const asked: string[] = [];
  page.context().on("request", (request) => asked.push(request.url()));
  const isInert = async () => {
    for (const frame of page.frames()) {
      // A frame of the browser's own, of its viewer of papers for instance, has a name too.
      const hasRun = await frame.evaluate(() => window.name === "ran" || "ran" in window).catch(() => false);
      assert.ok(!hasRun, frame.url());
    }
    assert.deepEqual(asked.filter((url) => url.includes("ran=")), []);
  };
  for (const [name, body] of Object.entries(HOSTILE)) {
    const path = `/workspace/${name}`;
    await store(path, body);
    const made = await call(`/instances/${id}/files/url`, { method: "POST", body: JSON.stringify({ path, method: "GET", expires_seconds: 60 }) });
    const { url } = (await made.json()) as { url: string };
    await page.goto("/healthz");
    for (const address of [`/api${content(path)}`, url]) {
      const [saved] = await Promise.all([page.waitForEvent("download"), page.evaluate((to) => location.assign(to), address)]);
      assert.equal(saved.suggestedFilename(), name);
      await isInert();
      // In a frame it is not even loaded.
      await page.evaluate(
        (src) => new Promise((onload) => document.body.append(Object.assign(document.createElement("iframe"), { src, onload }))),
        address,
      );
      await isInert();
    }
    await page.goto(`/instances/${id}/files?file=${path}`);
    const shown = { "evil.html": page.getByRole("textbox", { name }), "evil.svg": page.getByRole("img", { name }), "evil.pdf": page.locator("iframe") };
    await shown[name as keyof typeof shown].waitFor();
    await isInert();
  }
  await page.goto(`/instances/${id}/files?file=/workspace/evil.svg`);
  // It is painted, not put in the page.
  await page.waitForFunction(() => document.querySelector("canvas")?.getContext("2d")?.getImageData(20, 20, 1, 1).data[0] === 255);
  await page.close();
});

test("a terminal goes on through a reload, full-screen programs too", async () => {
  const { page } = ada;
  await page.getByRole("link", { name: "Terminal" }).click();
  const screen = page.locator(".xterm-rows");
  await screen.getByText("$").first().waitFor();
  await page.keyboard.type("cat notes.md; N=4; echo\n");
  await screen.getByText("newest").waitFor();
  await ada.isFit();
  await page.reload();
  await screen.getByText("newest").waitFor();
  await page.getByRole("textbox", { name: "Terminal input" }).focus();
  await page.keyboard.type("echo same-$((N * 10 + 2))\n");
  await screen.getByText("same-42").waitFor();

  await page.keyboard.type("vim -u NONE -N notes.md\n");
  await screen.getByText("~").first().waitFor();
  await page.keyboard.type("ofrom vim");
  await screen.getByText("from vim").waitFor();
  await page.reload();
  await screen.getByText("from vim").waitFor();
  await page.getByRole("textbox", { name: "Terminal input" }).focus();
  await page.keyboard.press("Escape");
  await page.keyboard.type(":wq\n");
  await screen.getByText("same-42").waitFor();
  assert.equal(await (await call(content("/workspace/notes.md"))).text(), "newest\nfrom vim\n");
  await page.keyboard.type("htop\n");
  await screen.getByText("Load average").waitFor();
  await page.keyboard.type("q");
  await screen.getByText("same-42").waitFor();
  await page.getByRole("button", { name: "Find in the terminal" }).click();
  await page.getByRole("searchbox", { name: "Find in the terminal" }).fill("same-42");
  await page.keyboard.press("Enter");
  await page.getByRole("button", { name: "Copy what is selected" }).click();
  await page.getByText("Copied.").first().waitFor();
  assert.equal(await page.evaluate(() => navigator.clipboard.readText()), "same-42");
});

/** Waits until something is drawn that is not all of one colour. */
async function isDrawn(page: Page): Promise<void> {
  await page.getByText("Connected").waitFor({ timeout: 30_000 });
  await page.waitForFunction(() => {
    const canvas = document.querySelector<HTMLCanvasElement>(".glass canvas");
    const pixels = canvas && canvas.width > 0 ? canvas.getContext("2d")?.getImageData(0, 0, canvas.width, canvas.height).data : undefined;
    return pixels !== undefined && new Set(new Uint32Array(pixels.buffer)).size > 2;
  });
}

test("the desktop is drawn, and has its clipboard in full screen too", async () => {
  const { page } = ada;
  await page.getByRole("link", { name: "Desktop" }).click();
  await isDrawn(page);
  await ada.isFit();
  await page.getByRole("button", { name: "Full screen" }).click();
  await page.getByRole("button", { name: "Leave full screen" }).waitFor();
  await page.getByRole("button", { name: "Clipboard" }).click();
  assert.equal(await page.getByRole("dialog").evaluate((dialog) => document.fullscreenElement?.contains(dialog)), true);
  await page.keyboard.press("Escape");
  await page.getByRole("button", { name: "Leave full screen" }).click();
  await page.getByRole("button", { name: "Full screen", exact: true }).waitFor();
});

test("a phone has all of it too", async () => {
  const phone = await Visitor.open(browser, platform.origin, PHONE, true);
  const { page } = phone;
  // Asked to sign in on the way, one gets to where one wanted to.
  await page.goto(`/instances/${id}/files?path=%2Fworkspace%2Fdeep`);
  await page.waitForURL("**/sign-in?next=*");
  await page.getByLabel("E-mail address").fill("ada@example.org");
  await page.getByLabel("Password").fill("a rather long password");
  await page.getByRole("button", { name: "Sign in" }).click();
  await page.getByRole("link", { name: "long.txt" }).waitFor();
  await phone.isFit();
  await page.getByRole("link", { name: "workspace" }).click();
  await upload(page, "from a phone.txt", "pocket");
  await page.getByRole("link", { name: "from a phone.txt" }).waitFor();
  await phone.isFit();

  await page.getByRole("link", { name: "Chat" }).click();
  await page.getByRole("textbox", { name: "Message" }).and(page.locator(":enabled")).waitFor();
  await reloadsInTheMiddle(phone, "kelp");
  await phone.isFit();

  await page.getByRole("link", { name: "Terminal" }).click();
  const screen = page.locator(".xterm-rows");
  await page.getByRole("button", { name: "New terminal" }).click();
  await screen.getByText("$").first().waitFor();
  await page.getByRole("textbox", { name: "Terminal input" }).focus();
  await page.keyboard.type("sleep 1000; echo after-$?\n");
  await page.getByRole("button", { name: "Ctrl" }).click();
  await page.keyboard.type("c");
  await screen.getByText("$").nth(1).waitFor();
  await page.keyboard.type("echo again-$((6*7))\n");
  await screen.getByText("again-42").waitFor();
  await page.keyboard.press("Control+l");
  await screen.getByText("again-42").waitFor({ state: "detached" });
  await page.getByRole("button", { name: "ArrowUp" }).click();
  await page.keyboard.press("Enter");
  await screen.getByText("again-42").waitFor();
  await phone.isFit();

  await page.getByRole("link", { name: "Desktop" }).click();
  await isDrawn(page);
  await page.getByRole("button", { name: "Keys and text" }).click();
  await phone.isFit();
  await phone.finish();
});

test("a revoked key is refused", async () => {
  const { page } = ada;
  await page.goto("/account/keys");
  await page.getByRole("button", { name: "Actions for script" }).click();
  await page.getByRole("menuitem", { name: "Revoke…" }).click();
  await page.getByRole("button", { name: "Revoke script" }).click();
  await page.getByText("script", { exact: true }).waitFor({ state: "detached" });
  assert.equal((await call(`/instances/${id}/chat/sessions`)).status, 401);
});
