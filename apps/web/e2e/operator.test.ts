import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import type { Browser } from "playwright-core";

import { launch, PHONE, Visitor } from "./browser.ts";
import { OPERATOR, Platform } from "./platform.ts";

let platform: Platform;
let browser: Browser;
before(async () => {
  [platform, browser] = await Promise.all([Platform.start(), launch()]);
});
after(async () => {
  await browser.close();
  await platform.stop();
});

async function signIn(visitor: Visitor, email: string, password: string): Promise<void> {
  const { page } = visitor;
  await page.goto("/sign-in");
  await page.getByLabel("E-mail address").fill(email);
  await page.getByLabel("Password").fill(password);
  await page.getByRole("button", { name: "Sign in" }).click();
  await page.waitForURL("**/instances");
}

test("the operator invites somebody, stops their instance and locks them out", async () => {
  const operator = await Visitor.open(browser, platform.origin);
  const { page } = operator;
  await signIn(operator, OPERATOR.email, OPERATOR.password);
  await page.getByRole("link", { name: "Operator" }).click();
  await page.getByRole("link", { name: "Invites" }).click();
  await page.getByRole("button", { name: "New invite" }).click();
  await page.getByLabel("Uses").fill("0");
  await page.getByRole("button", { name: "Create invite" }).click();
  await page.getByLabel("Uses").and(page.locator("[aria-invalid]")).waitFor();
  await page.getByLabel("Uses").fill("2");
  await operator.isFit();
  await page.getByRole("button", { name: "Create invite" }).click();
  const code = (await page.getByLabel("Invite code").textContent()) ?? "";
  await operator.isFit();
  await page.getByRole("button", { name: "Done" }).click();
  assert.ok(!(await page.content()).includes(code), "it is not shown again");
  await page.getByText("Used 0 of 2").waitFor();

  // The code comes as a link; who follows it need not type it.
  const ada = await Visitor.open(browser, platform.origin, PHONE);
  await ada.page.goto(`/sign-up?invite=${code}`);
  await ada.page.getByLabel("E-mail address").fill("ada@example.org");
  await ada.page.getByLabel("Password").fill("a rather long password");
  await ada.page.getByRole("button", { name: "Create account" }).click();
  await ada.page.getByText("A mail to confirm ada@example.org is on its way.").first().waitFor();
  assert.equal(await ada.page.getByRole("link", { name: "Operator" }).count(), 0);
  await ada.page.goto("/admin/users");
  await ada.page.waitForURL("**/instances");
  await ada.page.getByRole("button", { name: "New instance" }).click();
  await ada.page.getByLabel("Name").fill("research");
  await ada.page.getByRole("button", { name: "Create", exact: true }).click();
  await ada.page.getByRole("textbox", { name: "Message" }).and(ada.page.locator(":enabled")).waitFor();

  await page.reload();
  await page.getByText("Used 1 of 2").waitFor();
  await page.getByRole("navigation", { name: "Operator" }).getByRole("link", { name: "Instances" }).click();
  await page.getByRole("button", { name: "Stop research of ada@example.org" }).click();
  await page.getByRole("button", { name: "Start research of ada@example.org" }).waitFor();
  await operator.isFit();
  await ada.page.getByText("This instance is stopped.").waitFor();

  await page.getByRole("link", { name: "Accounts" }).click();
  await page.getByLabel("Search by address").fill("ADA@");
  await page.getByText(OPERATOR.email).waitFor({ state: "detached" });
  await page.getByRole("button", { name: "Actions for ada@example.org" }).click();
  await page.getByRole("menuitem", { name: "Lock…" }).click();
  await page.getByRole("button", { name: "Lock account" }).click();
  await page.getByText("Locked", { exact: true }).waitFor();
  await operator.isFit();
  await ada.page.waitForURL("**/sign-in?*");
  await ada.page.getByLabel("E-mail address").fill("ada@example.org");
  await ada.page.getByLabel("Password").fill("a rather long password");
  await ada.page.getByRole("button", { name: "Sign in" }).click();
  await ada.page.getByText("This account is locked").waitFor();

  for (const [tab, what] of [
    ["Background", "Work in the background"],
    ["Mail", "Mail that is not sent"],
    ["Audit", "account.lock"],
  ] as const) {
    await page.getByRole("navigation", { name: "Operator" }).getByRole("link", { name: tab }).click();
    await page.getByText(what).first().waitFor();
    await operator.isFit();
  }
  await ada.finish();
  await operator.finish();
});

test("an account shows its use, its history and its address", async () => {
  const kim = await Visitor.open(browser, platform.origin, PHONE, true);
  const { page } = kim;
  await kim.signUp("kim@example.org");
  await page.goto("/account/usage");
  await page.getByText("None of your instances used a model.").waitFor();
  await page.getByText("As a table").click();
  const saved = page.waitForEvent("download");
  await page.getByRole("button", { name: "CSV by day" }).click();
  assert.equal((await saved).suggestedFilename(), "usage-by-day.csv");
  await kim.isFit();
  await page.getByRole("link", { name: "History" }).click();
  await page.getByText("account.sign_up").waitFor();
  await page.getByLabel("Action").fill("key");
  await page.getByRole("button", { name: "Filter" }).click();
  await page.getByText("Nothing of that kind was done.").waitFor();
  await kim.isFit();
  await page.getByRole("link", { name: "Profile" }).click();
  await page.getByText("kim@example.org is not confirmed.").waitFor();
  await page.getByLabel("New address").fill("kim@example.net");
  await page.getByLabel("Your password").fill("a rather long password");
  await page.getByRole("button", { name: "Change the address" }).click();
  await page.getByText("kim@example.net is not confirmed.").waitFor();
  await kim.isFit();
  await kim.finish();
});

test("the reference sends what is tried in it, with the key that was given", async () => {
  const eve = await Visitor.open(browser, platform.origin, PHONE, true);
  const { page } = eve;
  await eve.signUp("eve@example.org");
  await page.goto("/account/keys");
  await page.getByRole("button", { name: "New key" }).click();
  await page.getByLabel("Name").fill("reference");
  await page.getByRole("button", { name: "Create key" }).click();
  const secret = (await page.getByLabel("Secret of reference").textContent()) ?? "";
  await page.goto("/docs/reference");
  const section = page.locator("#getCurrentKey");
  await section.getByRole("button", { name: "Try it: getCurrentKey" }).click();
  await section.getByRole("button", { name: "Send GET" }).click();
  await section.getByText("401").first().waitFor();
  await page.getByLabel("API key").fill(secret);
  await section.getByRole("button", { name: "Send GET" }).click();
  await section.getByText(`"last4": "${secret.slice(-4)}"`).waitFor();
  await eve.isFit();
  await page.getByLabel("Appearance").selectOption("Light");
  await page.goto("/instances");
  assert.equal(await page.evaluate(() => document.documentElement.style.colorScheme), "light", "the app has the same appearance");
  await eve.finish();
});
