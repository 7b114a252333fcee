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

test("what is wrong with a sign-up stands beside its field", async () => {
  const ada = await Visitor.open(browser, platform.origin, PHONE);
  const { page } = ada;
  await page.goto("/instances");
  await page.waitForURL("**/sign-in?next=*");
  await ada.isFit();
  await page.getByRole("link", { name: "Create one" }).click();
  await page.getByLabel("E-mail address").fill("ada@example.org");
  await page.getByLabel("Password").fill("short");
  await page.getByRole("button", { name: "Create account" }).click();
  await page.getByLabel("Password").and(page.locator("[aria-invalid]")).waitFor();
  assert.match((await page.getByRole("alert").textContent()) ?? "", /10/);
  assert.equal(await page.getByLabel("E-mail address").inputValue(), "ada@example.org", "what was typed stays");
  await ada.isFit();
  await page.getByLabel("Password").fill("a rather long password");
  await page.getByLabel("Invite code").fill("AAAA-AAAA-AAAA-AAAA");
  await page.getByRole("button", { name: "Create account" }).click();
  await page.getByLabel("Invite code").and(page.locator("[aria-invalid]")).waitFor();
  await page.getByLabel("Invite code").fill("");
  await page.getByRole("button", { name: "Create account" }).click();
  await page.waitForURL("**/instances");

  const again = await Visitor.open(browser, platform.origin);
  await again.page.goto("/sign-in");
  await again.page.getByLabel("E-mail address").fill("ada@example.org");
  await again.page.getByLabel("Password").fill("another password");
  await again.page.getByRole("button", { name: "Sign in" }).click();
  await again.page.getByText("Wrong e-mail address or password.").waitFor();
  await again.finish();
  await ada.finish();
});

/** A revocation holds everywhere within a second. */
async function becomes(wanted: number, look: () => Promise<number>): Promise<void> {
  const end = Date.now() + 2_000;
  while ((await look()) !== wanted) assert.ok(Date.now() < end, `it does not become ${wanted}`);
}

test("a key is shown once, works, is rotated, and is refused when it is revoked", async () => {
  const bob = await Visitor.open(browser, platform.origin);
  const { page } = bob;
  await bob.signUp("bob@example.org");
  await page.goto("/account");
  await page.waitForURL("**/account/keys");
  await page.getByRole("button", { name: "New key" }).click();
  await page.getByLabel("Name").fill("nightly report");
  await page.getByRole("checkbox", { name: "terminal" }).uncheck();
  await page.getByLabel("Ends").selectOption("In 30 days");
  await bob.isFit();
  await page.getByRole("button", { name: "Create key" }).click();
  const secret = (await page.getByLabel("Secret of nightly report").textContent()) ?? "";
  assert.match(secret, /^sk_live_/);
  await page.getByRole("button", { name: "Copy key" }).click();
  await page.getByRole("button", { name: "Copied" }).waitFor();
  assert.equal(await page.evaluate(() => navigator.clipboard.readText()), secret);
  await page.getByRole("button", { name: "Done" }).click();
  assert.ok(!(await page.content()).includes(secret), "it is not shown again");
  const use = async (key: string) =>
    (await fetch(`${platform.origin}/api/keys/current`, { headers: { authorization: `Bearer ${key}` } })).status;
  assert.equal(await use(secret), 200);

  await page.getByRole("button", { name: "Actions for nightly report" }).click();
  await page.getByRole("menuitem", { name: "Rotate…" }).click();
  await page.getByLabel("The old one").selectOption("ends at once");
  await page.getByRole("button", { name: "Rotate" }).click();
  const next = (await page.getByLabel("Secret of nightly report").textContent()) ?? "";
  await page.getByRole("button", { name: "Done" }).click();
  await becomes(401, () => use(secret));
  assert.equal(await use(next), 200);

  const row = page.getByRole("listitem").filter({ hasText: next.slice(-4) });
  await row.getByRole("button", { name: "Actions for nightly report" }).click();
  await page.getByRole("menuitem", { name: "Revoke…" }).click();
  await page.getByRole("heading", { name: "Revoke nightly report?" }).waitFor();
  await bob.isFit();
  await page.getByRole("button", { name: "Revoke nightly report" }).click();
  await row.waitFor({ state: "detached" });
  await becomes(401, () => use(next));
  await bob.finish();
});

test("a code is redeemed once it is right", async () => {
  const eve = await Visitor.open(browser, platform.origin, PHONE, true);
  const { page } = eve;
  await eve.signUp("eve@example.org");
  await page.goto("/account/invites");
  await page.getByLabel("Code").fill("no such code");
  await page.getByRole("button", { name: "Redeem" }).click();
  await page.getByText("This invite code is not valid").waitFor();
  await page.getByLabel("Code").fill(await platform.invite());
  await page.getByRole("button", { name: "Redeem" }).click();
  await page.getByText("One instance on the").waitFor();
  await eve.isFit();
  await eve.finish();
});

test("a forgotten password is replaced with the mailed link", async () => {
  const kim = await Visitor.open(browser, platform.origin, PHONE);
  const { page } = kim;
  await kim.signUp("kim@example.org");
  await page.goto("/sign-in");
  await page.getByRole("link", { name: "Forgot your password?" }).click();
  await page.getByLabel("E-mail address").fill("kim@example.org");
  await page.getByRole("button", { name: "Send me a link" }).click();
  await page.getByText("Look into your mail.").waitFor();
  await page.goto(await platform.mailed("/reset-password"));
  await page.getByLabel("New password").fill("short");
  await page.getByRole("button", { name: "Set password" }).click();
  await page.getByLabel("New password").and(page.locator("[aria-invalid]")).waitFor();
  await kim.isFit();
  await page.getByLabel("New password").fill("an even longer password");
  await page.getByRole("button", { name: "Set password" }).click();
  await page.getByRole("main").getByRole("link", { name: "Sign in" }).click();
  await page.getByLabel("E-mail address").fill("kim@example.org");
  await page.getByLabel("Password").fill("an even longer password");
  await page.getByRole("button", { name: "Sign in" }).click();
  await page.waitForURL("**/instances");
  await kim.finish();
});

test("whoever is signed out elsewhere is asked to sign in", async () => {
  const here = await Visitor.open(browser, platform.origin);
  await here.signUp("joy@example.org");
  const there = await Visitor.open(browser, platform.origin);
  await there.page.goto("/sign-in");
  await there.page.getByLabel("E-mail address").fill("joy@example.org");
  await there.page.getByLabel("Password").fill("a rather long password");
  await there.page.getByRole("button", { name: "Sign in" }).click();
  await there.page.waitForURL("**/instances");

  await here.page.goto("/account/sessions");
  await here.isFit();
  await here.page.getByRole("button", { name: /^Sign out / }).click();
  await there.page.waitForURL("**/sign-in?next=*");
  await there.finish();

  await here.page.getByLabel("Name").fill("Joy");
  await here.page.getByRole("button", { name: "Save" }).click();
  await here.page.getByText("Saved.").first().waitFor();
  await here.page.getByLabel("Present password").fill("a wrong one altogether");
  await here.page.getByLabel("New password").fill("an even longer password");
  await here.page.getByRole("button", { name: "Change", exact: true }).click();
  await here.page.getByLabel("Present password").and(here.page.locator("[aria-invalid]")).waitFor();
  await here.page.getByLabel("Present password").fill("a rather long password");
  await here.page.getByRole("button", { name: "Change", exact: true }).click();
  await here.page.getByText("Your password is changed.").first().waitFor();

  await here.page.getByRole("button", { name: "Account", exact: true }).click();
  await here.page.getByRole("menuitem", { name: "Sign out" }).click();
  await here.page.waitForURL("**/sign-in");
  await here.page.goto("/account/sessions");
  await here.page.waitForURL("**/sign-in?next=*");
  await here.page.getByLabel("E-mail address").fill("joy@example.org");
  await here.page.getByLabel("Password").fill("an even longer password");
  await here.page.getByRole("button", { name: "Sign in" }).click();
  await here.page.waitForURL("**/account/sessions");
  await here.page.getByRole("button", { name: "Delete account" }).click();
  await here.page.getByRole("dialog").getByLabel("Your password").fill("an even longer password");
  await here.page.getByRole("dialog").getByRole("button", { name: "Delete account" }).click();
  await here.page.waitForURL("**/sign-up");
  await here.finish();
});
