// The operator console, used as an operator would.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { DESKTOP, PHONE, blank, close, launch, need, picture } from "./page.mjs";

const CONSOLE = need("LARKAUTH_CONSOLE_URL");
const KEY = need("LARKAUTH_CONSOLE_KEY");

let browser;
before(async () => { browser = await launch(); });
after(async () => { await browser?.close(); });

async function login(options) {
  const page = await blank(browser, options);
  await page.goto(CONSOLE);
  assert.match(page.url(), /\/console\/login$/);
  await page.locator("#key").fill(KEY);
  await page.keyboard.press("Enter");
  await page.waitForURL(`${CONSOLE}/`);
  return page;
}

const link = (page, name) => page.locator("nav a", { hasText: name }).click();

// Every control is reachable without scrolling sideways.
async function fits(page, size) {
  const wider = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
  assert.equal(wider, 0, `${page.url()} is wider than ${size.width}`);
  for (const control of await page.locator("main button:visible, main .button:visible, main input:visible, main select:visible").all()) {
    const box = await control.boundingBox();
    assert.ok(box.x >= 0 && box.x + box.width <= size.width, `${page.url()}: a control is outside`);
    assert.ok(size !== PHONE || box.height >= 24, `${page.url()}: a control is too small to touch`);
  }
}

test("wrong key is refused, right key opens the overview, and its cookie is protected", async () => {
  const page = await blank(browser, {});
  await page.goto(`${CONSOLE}/sessions`);
  await page.locator("#key").fill("wrong");
  await page.locator("button").click();
  await page.locator("[role=alert]", { hasText: "unknown, expired or was revoked" }).waitFor();
  await page.locator("#key").fill(KEY);
  await page.locator("button").click();
  await page.waitForURL(`${CONSOLE}/sessions`);
  const cookies = await page.context().cookies(CONSOLE);
  assert.equal(cookies.length, 1);
  const [{ name, path, httpOnly, sameSite, value }] = cookies;
  assert.deepEqual({ name, path, httpOnly, sameSite }, { name: "larkauth_console", path: "/console", httpOnly: true, sameSite: "Strict" });
  assert.ok(!value.includes(KEY));
  assert.deepEqual(await page.context().cookies(new URL("/v1/", CONSOLE).href), []);
  assert.equal(await page.evaluate(() => document.scripts.length), 0);
  await close(page);
});

test("session and person are found and shown (en, desktop)", async () => {
  const page = await login({ size: DESKTOP });
  await page.locator("h2", { hasText: "Long connections" }).waitFor();
  await page.getByText("Every part of this gateway works.").waitFor();
  await fits(page, DESKTOP);
  await link(page, "Sessions");
  await page.getByLabel("State").selectOption("completed");
  await page.getByRole("button", { name: "Search" }).click();
  const rows = page.locator("tbody tr");
  assert.equal(await rows.count(), 3);
  await page.locator("tbody a", { hasText: "李雷" }).click();
  await page.locator("h1", { hasText: "李雷" }).waitFor();
  await page.locator("dd .badge.good", { hasText: "completed" }).waitFor();
  await page.locator("dd a").first().click();
  await page.locator("h1", { hasText: "Li Lei" }).waitFor();
  await page.getByRole("link", { name: "Revoke…" }).waitFor();
  await fits(page, DESKTOP);
  await picture(page, "console-desktop");
  await close(page);
});

test("token is refreshed and has another generation", async () => {
  const page = await login({});
  await link(page, "People");
  await page.locator("tbody a").first().click();
  await page.getByRole("link", { name: "Refresh…" }).click();
  await page.getByRole("button", { name: "Refresh now" }).click();
  await page.getByText("The token is refreshed.").waitFor();
  assert.equal(await page.locator("dt", { hasText: "Generation" }).locator("+ dd").textContent(), "2");
  await close(page);
});

test("token is revoked after a question, on a phone and in Chinese", async () => {
  const page = await login({ size: PHONE, language: "zh" });
  assert.equal(await page.locator("html").getAttribute("lang"), "zh-CN");
  await fits(page, PHONE);
  await picture(page, "console-phone.zh");
  await link(page, "会话");
  await fits(page, PHONE);
  await page.locator("tbody a", { hasText: "韩梅梅" }).click();
  await page.locator("dd a").first().click();
  await fits(page, PHONE);
  await page.getByRole("link", { name: "撤销…" }).click();
  await page.locator("h1", { hasText: "撤销此令牌？" }).waitFor();
  await fits(page, PHONE);
  await page.getByRole("link", { name: "返回" }).click();
  await page.locator(".badge", { hasText: "有效" }).waitFor();
  await page.getByRole("link", { name: "撤销…" }).click();
  await page.getByRole("button", { name: "撤销" }).click();
  await page.locator("[role=status]", { hasText: "令牌已撤销" }).waitFor();
  await page.locator(".badge", { hasText: "已撤销" }).waitFor();
  assert.equal(await page.getByRole("link", { name: "撤销…" }).count(), 0);
  const [, app, person] = /app_id=([^&]+)&open_id=([^&]+)/.exec(page.url());
  const token = new URL(`/v1/apps/${app}/users/${person}/token`, CONSOLE);
  const answer = await fetch(token, { headers: { authorization: `Bearer ${KEY}` } });
  assert.equal(answer.status, 404);
  // The record of it.
  await page.goto(`${CONSOLE}/audit?action=token.revoke`);
  await page.locator("tbody tr", { hasText: "console:" }).waitFor();
  await close(page);
});

test("every page fits in both sizes, languages and colours", async () => {
  for (const [size, language, scheme] of [[DESKTOP, "en", "dark"], [PHONE, "en", "light"], [PHONE, "zh", "dark"]]) {
    const page = await login({ size, language, scheme });
    const person = (await page.request.get(`${CONSOLE}/people`)).text();
    const query = /href="person\?([^"]+)"/.exec(await person)[1].replaceAll("&#38;", "&");
    for (const name of ["", "sessions", "people", `person?${query}`, `revoke?${query}`, "horizon?days=365", "dead-letters", "audit", "apps", "nothing-here"]) {
      const answer = await page.goto(`${CONSOLE}/${name}`);
      if (name === "nothing-here") { assert.equal(answer.status(), 404); continue; }
      assert.equal(answer.status(), 200, name);
      await fits(page, size);
      // Of two colours the text is the lighter one in the dark.
      const [back, text] = await page.evaluate(() => {
        const { backgroundColor, color } = getComputedStyle(document.body);
        return [backgroundColor, color].map((value) => value.match(/\d+/g).slice(0, 3).reduce((sum, part) => sum + Number(part), 0));
      });
      assert.equal(back < text, scheme === "dark", name);
    }
    await close(page);
  }
});

test("language is switched and remembered, and logging out ends the login", async () => {
  const page = await login({ language: "zh" });
  await page.getByRole("link", { name: "English" }).click();
  await page.locator("html[lang=en]").waitFor();
  await link(page, "Applications");
  await page.locator("h1", { hasText: "Applications" }).waitFor();
  const stolen = await page.context().cookies(CONSOLE);
  await page.getByRole("button", { name: "Log out" }).click();
  await page.getByText("You are logged out.").waitFor();
  await page.goto(`${CONSOLE}/apps`);
  assert.match(page.url(), /login\?next=apps$/);
  await page.context().addCookies(stolen);
  await page.goto(`${CONSOLE}/apps`);
  assert.match(page.url(), /login\?next=apps$/, "a copy of the cookie is worth nothing");
  await close(page);
});

test("form that another site sends is refused", async () => {
  const page = await login({});
  const body = await (await page.request.get(`${CONSOLE}/people`)).text();
  const csrf = /name="csrf" value="([^"]+)"/.exec(body)[1];
  // A page of another origin on the same machine, which even knows the form's token.
  const elsewhere = await page.context().newPage();
  await elsewhere.route("http://localhost:1/", (route) => route.fulfill({
    contentType: "text/html",
    body: `<form method="post" action="${CONSOLE}/logout"><input name="csrf" value="${csrf}"><button>go</button></form>`,
  }));
  await elsewhere.goto("http://localhost:1/");
  const [answer] = await Promise.all([elsewhere.waitForResponse(/\/console\/logout$/), elsewhere.getByRole("button").click()]);
  assert.equal(answer.status(), 403);
  await page.goto(`${CONSOLE}/`);
  await page.locator("h1", { hasText: "Overview" }).waitFor();
  await close(page);
});
