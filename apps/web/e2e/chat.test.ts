import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import type { Browser } from "playwright-core";

import { launch, PHONE, Visitor } from "./browser.ts";
import { Platform } from "./platform.ts";

let platform: Platform;
let browser: Browser;
let ada: Visitor;
before(async () => {
  [platform, browser] = await Promise.all([Platform.start(), launch()]);
  ada = await Visitor.open(browser, platform.origin);
  await ada.signUp("ada@example.org");
  await ada.create("research", await platform.invite());
});
after(async () => {
  await ada.finish();
  await browser.close();
  await platform.stop();
});

const answer = (n = -1) => ada.page.getByRole("article", { name: "Answer" }).nth(n);

test("a question is answered as it streams, with its steps folded", async () => {
  const { page } = ada;
  await ada.isFit();
  await ada.ask("Hello **there**");
  await page.getByRole("article", { name: "You" }).getByText("Hello **there**").waitFor();
  await answer().getByText("You said: Hello there").waitFor();
  await page.waitForURL("**/chat/chs_*");
  await page.getByRole("complementary", { name: "Conversations" }).getByText("Hello **there**").waitFor();
  await ada.ask("tool please");
  await answer().getByText("There is one file.").waitFor();
  await answer().getByText("exec").click();
  await answer().getByText("notes.md").waitFor();
  await ada.isFit();
});

test("an answer goes on where it was after a lost connection", async () => {
  await ada.ask("cut the line");
  await answer().getByText("One two three.", { exact: true }).waitFor();
  assert.equal(await ada.page.getByText("cut the line").count(), 1);
});

test("an answer is there after a reload in its middle, and can be stopped", async () => {
  const { page } = ada;
  await ada.ask("wait for me");
  await answer().getByText("So far so good.").waitFor();
  await page.reload();
  await answer().getByText("So far so good.").waitFor();
  await page.getByRole("button", { name: "Stop the answer" }).click();
  await page.getByText("You stopped this answer.").waitFor();
  await page.getByRole("button", { name: "Stop the answer" }).waitFor({ state: "detached" });
});

test("an answer that is not whole says so, also later", async () => {
  const { page } = ada;
  await ada.ask("fail now");
  await page.getByText("This answer failed. The model said no.").waitFor();
  await ada.ask("interrupt now");
  await page.getByText("This answer was interrupted and is not whole.").waitFor();
  await page.reload();
  await page.getByText("This answer failed. The model said no.").waitFor();
  await page.getByText("This answer was interrupted and is not whole.").waitFor();
});

test("what was not sent waits for another try, and what failed is asked again", async () => {
  const { page } = ada;
  await page.route("**/chat/stream", (route) => route.fulfill({ status: 422, json: { message: "Not today." } }));
  await ada.ask("keep this");
  await page.getByText("Not sent. Not today.").waitFor();
  await page.getByRole("link", { name: "Logs" }).click();
  await page.getByRole("link", { name: "Chat" }).click();
  await page.getByText("Not sent. Not today.").waitFor();
  await page.reload();
  await page.getByText("Not sent. Not today.").waitFor();
  await page.unroute("**/chat/stream");
  await page.getByRole("button", { name: "Send again" }).click();
  await answer().getByText("You said: keep this").waitFor();
  assert.equal(await page.getByRole("article", { name: "You" }).getByText("keep this").count(), 1);
  await page.getByText("This answer failed.").getByRole("button", { name: "Ask again" }).click();
  await page.getByText("This answer failed.").nth(1).waitFor();
});

test("what an agent writes runs nothing and calls nobody", async () => {
  const { page } = ada;
  await ada.ask("evil please");
  await answer().getByRole("table").waitFor();
  assert.equal(await page.evaluate(() => (window as { evil?: number }).evil), undefined);
  assert.equal(await answer().locator("script, img").count(), 0);
  assert.equal(await answer().getByText("a link").getAttribute("href"), null);
  const picture = answer().getByRole("link", { name: "a picture" });
  assert.match((await picture.getAttribute("rel")) ?? "", /noopener noreferrer/);
  await page.getByRole("button", { name: "Copy code" }).last().click();
  assert.equal(await page.evaluate(() => navigator.clipboard.readText()), "fn main() {}");
});

test("files go with a message, by choice and by paste", async () => {
  const { page } = ada;
  const [chooser] = await Promise.all([
    page.waitForEvent("filechooser"),
    page.getByRole("button", { name: "Attach files" }).click(),
  ]);
  await chooser.setFiles({ name: "notes.txt", mimeType: "text/plain", buffer: Buffer.from("hello") });
  await page.getByRole("button", { name: "Remove notes.txt" }).waitFor();
  await page.getByRole("textbox", { name: "Message" }).evaluate((field) => {
    const clipboardData = new DataTransfer();
    clipboardData.items.add(new File(["x"], "picture.png", { type: "image/png" }));
    field.dispatchEvent(new ClipboardEvent("paste", { clipboardData, bubbles: true, cancelable: true }));
  });
  await page.getByRole("button", { name: "Remove picture.png" }).waitFor();
  await ada.ask("two files");
  const question = page.getByRole("article", { name: "You" }).filter({ hasText: "two files" });
  await question.getByText("notes.txt").waitFor();
  await question.getByText("picture.png").waitFor();
});

test("conversations are begun, renamed, switched and deleted, on a phone too", async () => {
  const { page } = ada;
  await page.setViewportSize(PHONE);
  await page.getByRole("link", { name: "New conversation" }).click();
  await ada.ask("a second talk");
  await answer().getByText("You said: a second talk").waitFor();
  await page.getByRole("button", { name: "a second talk" }).click();
  const list = page.getByRole("dialog", { name: "Conversations" });
  await list.getByRole("button", { name: "Actions for a second talk" }).click();
  await page.getByRole("menuitem", { name: "Rename…" }).click();
  await page.getByLabel("Title").fill("the other one");
  await page.getByRole("button", { name: "Rename", exact: true }).click();
  await list.getByText("the other one").waitFor();
  await ada.isFit();
  await list.getByText("Hello **there**").click();
  await page.getByText("You said: Hello there").waitFor();
  await ada.isFit();
  await page.getByRole("button", { name: "Hello **there**" }).click();
  await list.getByRole("button", { name: "Actions for the other one" }).click();
  await page.getByRole("menuitem", { name: "Delete…" }).click();
  await page.getByRole("button", { name: "Delete", exact: true }).click();
  await list.getByText("the other one").waitFor({ state: "detached" });
});
