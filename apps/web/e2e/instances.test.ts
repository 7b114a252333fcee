import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import type { Browser } from "playwright-core";

import { launch, PHONE, Visitor } from "./browser.ts";
import { Platform } from "./platform.ts";

let platform: Platform;
let browser: Browser;
before(async () => {
  [platform, browser] = await Promise.all([Platform.start(), launch()]);
});
after(async () => {
  await browser.close();
  await platform.stop();
});

test("the app comes compressed and for ever, and only where it has pages", async () => {
  const page = await fetch(`${platform.origin}/instances/any/chat`, { headers: { "accept-encoding": "br" } });
  assert.equal(page.status, 200);
  assert.equal(page.headers.get("cache-control"), "no-cache");
  const policy = page.headers.get("content-security-policy") ?? "";
  assert.match(policy, /default-src 'none'; script-src 'self';/);
  const script = /src="(\/assets\/[^"]+\.js)"/.exec(await page.text())?.[1] ?? "";
  const asset = await fetch(platform.origin + script, { headers: { "accept-encoding": "br" } });
  assert.equal(asset.headers.get("content-encoding"), "br");
  assert.match(asset.headers.get("cache-control") ?? "", /immutable/);
  const style = await fetch(`${platform.origin}/assets/reef.css`);
  assert.match(await style.text(), /--accent:/, "the documentation has the app's colours");
  const nowhere = await fetch(`${platform.origin}/no-such-page`, { headers: { accept: "text/html" } });
  assert.equal(nowhere.status, 404);
});

test("an instance is created, stopped, started, deleted and brought back", async () => {
  const ada = await Visitor.open(browser, platform.origin);
  const { page } = ada;
  await ada.signUp("ada@example.org");
  await page.getByText(`${platform.origin}/api/instances/INSTANCE_ID/chat/stream`).waitFor();
  await ada.isFit();
  await page.getByRole("button", { name: "Create your first instance" }).click();
  await page.getByRole("button", { name: "Create", exact: true }).click();
  await page.getByLabel("Invite code").and(page.locator("[aria-invalid]")).waitFor();
  await page.keyboard.press("Escape");
  await ada.create("research", await platform.invite());
  await page.getByText("Ready").waitFor();

  // Another window of the same person sees what happens as it happens.
  const other = await page.context().newPage();
  await other.goto("/instances");
  // A window behind another draws once a second.
  await page.bringToFront();
  const card = other.getByRole("listitem").filter({ hasText: "research" });
  await card.getByText("Ready").waitFor();

  await page.getByRole("button", { name: "Actions for research" }).click();
  await page.getByRole("menuitem", { name: "Stop" }).click();
  await page.getByText("This instance is stopped.").waitFor();
  await card.getByText("Stopped").waitFor();
  await ada.isFit();
  await page.getByRole("button", { name: "Start" }).click();
  await page.getByRole("textbox", { name: "Message" }).and(page.locator(":enabled")).waitFor();
  await card.getByText("Ready").waitFor();

  await page.getByRole("link", { name: "Settings" }).click();
  await page.waitForFunction(() => document.activeElement?.matches("h1") && document.title === "Settings · research · Reef");
  await page.getByLabel("Name").fill("research 2");
  await page.getByRole("button", { name: "Save" }).click();
  await page.getByRole("heading", { name: "research 2", level: 1 }).waitFor();
  await other.getByRole("link", { name: "research 2" }).waitFor();
  await page.getByRole("button", { name: "Replace environment" }).click();
  await page.getByRole("heading", { name: "Remove all variables?" }).waitFor();
  await page.getByRole("button", { name: "Cancel" }).click();
  await page.getByLabel("Variables").fill("NOT A LINE");
  await page.getByRole("button", { name: "Replace environment" }).click();
  await page.getByText("Line 1 is not of the form NAME=value.").waitFor();
  await page.getByLabel("Variables").fill("TZ=Europe/Berlin");
  await page.getByRole("button", { name: "Replace environment" }).click();
  await page.getByText("It takes effect at the next start.").first().waitFor();
  await ada.isFit();

  await page.getByRole("link", { name: "Logs" }).click();
  await page.getByText("gateway listening").waitFor();
  await page.getByLabel("Filter lines").fill("thing");
  await page.getByText("gateway listening").waitFor({ state: "detached" });
  await ada.isFit();

  await page.getByRole("button", { name: "Actions for research 2" }).click();
  await page.getByRole("menuitem", { name: "Delete…" }).click();
  await page.getByRole("button", { name: "Delete", exact: true }).click();
  await page.waitForURL("**/instances");
  await card.waitFor({ state: "detached" });
  await page.getByRole("button", { name: "Undo" }).click();
  await page.getByRole("listitem").filter({ hasText: "research 2" }).getByText("Ready").waitFor();
  await ada.finish();
});

test("a phone in the dark has all of it too", async () => {
  const bob = await Visitor.open(browser, platform.origin, PHONE, true);
  const { page } = bob;
  await bob.signUp("bob@example.org");
  await bob.isFit();
  await bob.create("pocket", await platform.invite());
  await bob.isFit();
  for (const tab of ["Logs", "Settings"]) {
    await page.getByRole("link", { name: tab }).click();
    await page.getByText(tab === "Logs" ? "gateway listening" : "Replace environment").waitFor();
    await bob.isFit();
  }
  await page.getByRole("link", { name: "All instances" }).click();
  await page.getByRole("link", { name: "pocket" }).waitFor();
  await bob.isFit();
  await bob.finish();
});
