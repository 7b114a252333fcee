import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import type { Browser } from "playwright-core";

import { launch, Visitor } from "./browser.ts";
import { Platform } from "./platform.ts";

let platform: Platform;
let browser: Browser;
before(async () => {
  [platform, browser] = await Promise.all([Platform.start("real"), launch()]);
});
after(async () => {
  await browser.close();
  await platform.stop();
});

test("from nothing to a streamed answer of the real OpenClaw, in the browser and with a key", async () => {
  const ada = await Visitor.open(browser, platform.origin);
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
  const key = (await page.getByLabel("Secret of script").textContent()) ?? "";
  await page.getByRole("button", { name: "Done" }).click();

  await page.getByRole("link", { name: "Instances", exact: true }).click();
  await page.getByRole("button", { name: "New instance" }).click();
  await page.getByLabel("Name").fill("real");
  assert.equal(await page.getByLabel("Invite code").count(), 0, "a redeemed code is enough");
  await page.getByRole("button", { name: "Create", exact: true }).click();
  await page.getByRole("textbox", { name: "Message" }).and(page.locator(":enabled")).waitFor({ timeout: 120_000 });

  await ada.ask("Hello from the browser");
  const answers = page.getByRole("article", { name: "Answer" });
  await answers.first().getByText("Hello from the browser").waitFor({ timeout: 60_000 });
  await ada.ask("/run echo made by $((6 * 7))");
  await answers.nth(1).getByText("exec").first().waitFor({ timeout: 60_000 });
  await answers.nth(1).getByText("made by 42").last().waitFor({ timeout: 60_000 });
  // In the middle of an answer or after it: what was said is there again.
  await page.reload();
  await answers.nth(1).getByText("made by 42").last().waitFor();

  const id = /inst_\w+/.exec(page.url())?.[0] ?? "";
  const asked = await fetch(`${platform.origin}/api/instances/${id}/chat`, {
    method: "POST",
    headers: { authorization: `Bearer ${key}`, "content-type": "application/json" },
    body: JSON.stringify({ message: "Hello from a script" }),
  });
  assert.equal(asked.status, 200);
  // What a script says is seen at once by whoever looks.
  await page.getByRole("article", { name: "You" }).getByText("Hello from a script").waitFor();
  await ada.isFit();

  await page.getByRole("link", { name: "Files", exact: true }).click();
  const [chooser] = await Promise.all([page.waitForEvent("filechooser"), page.getByRole("button", { name: "Upload" }).click()]);
  await chooser.setFiles({ name: "notes.md", mimeType: "text/markdown", buffer: Buffer.from("# Notes\n") });
  await ada.isFit();
  await page.getByRole("link", { name: "notes.md" }).click();
  await page.getByRole("textbox", { name: "notes.md" }).press("Control+End");
  await page.keyboard.type("from the browser");
  await page.getByRole("button", { name: "Save" }).click();
  await page.getByText("Saved.").first().waitFor();
  await ada.isFit();
  const read = await fetch(`${platform.origin}/api/instances/${id}/files/content?path=/workspace/notes.md`, {
    headers: { authorization: `Bearer ${key}` },
  });
  assert.equal(await read.text(), "# Notes\nfrom the browser");
  // Written by somebody else meanwhile: nothing is lost unasked.
  await fetch(`${platform.origin}/api/instances/${id}/files/content?path=/workspace/notes.md`, {
    method: "PUT",
    headers: { authorization: `Bearer ${key}` },
    body: "theirs",
  });
  await page.getByRole("textbox", { name: "notes.md" }).press("Control+End");
  await page.keyboard.type(", again");
  await page.getByRole("button", { name: "Save" }).click();
  await page.getByText("The file was changed meanwhile.").waitFor();
  await page.getByRole("button", { name: "Take theirs" }).click();
  await page.getByText("theirs", { exact: true }).waitFor();
  await page.getByRole("link", { name: "workspace" }).click();
  const [download] = await Promise.all([
    page.waitForEvent("download"),
    page.getByRole("link", { name: "Download as an archive" }).click(),
  ]);
  assert.match(download.suggestedFilename(), /\.zip$/);

  await page.getByRole("link", { name: "Terminal" }).click();
  const screen = page.locator(".xterm-rows");
  await screen.getByText("$").first().waitFor();
  await page.keyboard.type("cat notes.md; N=4; echo\n");
  await screen.getByText("theirs").waitFor();
  await ada.isFit();
  await page.reload();
  await screen.getByText("theirs").waitFor();
  await page.getByRole("textbox", { name: "Terminal input" }).focus();
  await page.keyboard.type("echo same-$((N * 10 + 2))\n");
  await screen.getByText("same-42").waitFor();

  await page.getByRole("link", { name: "Desktop" }).click();
  await page.getByText("Connected").waitFor({ timeout: 30_000 });
  await page.waitForFunction(() => {
    const canvas = document.querySelector<HTMLCanvasElement>(".glass canvas");
    const pixels = canvas && canvas.width > 0 ? canvas.getContext("2d")?.getImageData(0, 0, canvas.width, canvas.height).data : undefined;
    // Something is drawn that is not all of one colour.
    return pixels !== undefined && new Set(new Uint32Array(pixels.buffer)).size > 2;
  });
  await ada.isFit();
  await ada.finish();
});
