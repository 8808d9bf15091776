// A browser, pages that record errors, and the steps that the tests share.

import assert from "node:assert/strict";
import { mkdir } from "node:fs/promises";
import { createRequire } from "node:module";
import { fileURLToPath } from "node:url";

export const need = (name) => {
  const value = process.env[name];
  if (!value) throw new Error(`${name} is not set: eval "$(scripts/browser-setup)" and export what it prints`);
  return value;
};

const { chromium } = createRequire(`${need("LARKAUTH_BROWSER_MODULES")}/`)("playwright-core");
const IMAGES = fileURLToPath(new URL("../../docs/images/", import.meta.url));

export const PHONE = { width: 360, height: 740 };
export const DESKTOP = { width: 1280, height: 860 };

export const launch = () =>
  chromium.launch({
    executablePath: need("LARKAUTH_BROWSER_CHROMIUM"),
    args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"],
  });

// Opens the demo.
export async function open(browser, options = {}) {
  const page = await blank(browser, options);
  await page.goto(options.demo ?? need("LARKAUTH_DEMO_URL"));
  await page.locator("#ready.good").waitFor();
  return page;
}

// Opens an empty page. `page.wrongs` collects console errors, exceptions and requests that leave this machine.
export async function blank(browser, { size = DESKTOP, language = "en", scheme = "light" } = {}) {
  const context = await browser.newContext({
    viewport: size,
    locale: language === "zh" ? "zh-CN" : "en-US",
    colorScheme: scheme,
    deviceScaleFactor: size === PHONE ? 2 : 1,
    hasTouch: size === PHONE,
    permissions: ["clipboard-read", "clipboard-write"],
    reducedMotion: "reduce",
  });
  const page = await context.newPage();
  page.setDefaultTimeout(20_000);
  page.wrongs = [];
  page.on("console", (message) => {
    // A page's own status (declined by the gateway, out of reach) is told in the console, and is no error of the page.
    if (message.type() === "error" && !message.text().startsWith("Failed to load resource")) page.wrongs.push(message.text());
  });
  page.on("pageerror", (error) => page.wrongs.push(String(error)));
  page.on("request", (request) => {
    const url = new URL(request.url());
    if (url.protocol !== "about:" && url.protocol !== "data:" && url.hostname !== "127.0.0.1") page.wrongs.push(`a request to ${url.origin}`);
  });
  return page;
}

export async function close(page) {
  const { wrongs } = page;
  await page.context().close();
  assert.deepEqual(wrongs, []);
}

// Clears all faults for the next test, also after a failure.
export async function repair() {
  const demo = need("LARKAUTH_DEMO_URL");
  const answer = await fetch(new URL("/api/repair", demo), { method: "POST", headers: { origin: new URL(demo).origin } });
  assert.equal(answer.status, 204);
}

// Selects the owner of the phone, counted from 0.
export const hold = (page, person) => page.locator("#who").selectOption({ index: person });

// Asks the person with the phone for consent; returns the new card.
export async function ask(page, style = "detailed") {
  const cards = page.locator(".message .card");
  const before = await cards.count();
  await page.locator("#style").selectOption(style);
  await page.locator("#ask [type=submit]").click();
  const card = cards.nth(before);
  await card.waitFor();
  return card;
}

// Returns the frame of the phone's browser.
export const frame = (page) => page.frameLocator("#frame");

// Decides on the consent page; `as` is another person, counted from 0.
export async function decide(page, decision, as) {
  const consent = frame(page);
  await consent.locator(`button[value=${decision}]`).waitFor();
  if (as !== undefined) await consent.locator("select[name=user]").selectOption({ index: as });
  await consent.locator(`button[value=${decision}]`).click();
}

// Returns the result page once it shows this outcome (`good`, `neutral`, `waiting`, `bad`).
export async function result(page, tone) {
  const main = frame(page).locator(`main.${tone}`);
  await main.waitFor();
  return main;
}

// Presses Tab until this element has the focus.
export async function tabTo(page, target) {
  const here = (node) => node.ownerDocument.hasFocus() && node.ownerDocument.activeElement === node;
  for (let presses = 0; presses < 60; presses += 1) {
    if (await target.evaluate(here)) return;
    await page.keyboard.press("Tab");
  }
  assert.fail(`the keyboard does not come to ${target}`);
}

export const colour = (card, name) => card.and(card.page().locator(`.card.${name}`)).waitFor();

export const shut = (page) => page.locator("#close-sheet").click();

// Writes a screenshot for the README, when requested.
export async function picture(target, name) {
  if (process.env.LARKAUTH_UPDATE_IMAGES !== "1") return;
  await mkdir(IMAGES, { recursive: true });
  await target.screenshot({ path: `${IMAGES}${name}.png` });
}
