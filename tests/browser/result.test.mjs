// The gateway's result page on a phone, for every outcome.

import assert from "node:assert/strict";
import { after, afterEach, before, test } from "node:test";

import { PHONE, ask, close, decide, frame, hold, launch, open, repair, result } from "./page.mjs";

let browser;
before(async () => { browser = await launch(); });
afterEach(repair);
after(async () => { await browser?.close(); });

// Checks that a page fits and states its outcome in the phone's language and in the other one.
async function readable(main, title) {
  assert.match(await main.locator("h1").textContent(), title);
  assert.ok(await main.locator(".other h2").textContent());
  const { x, width } = await main.boundingBox();
  assert.ok(x >= 0 && x + width <= PHONE.width, "it does not fit");
  const wider = await main.evaluate(({ ownerDocument: { documentElement: root } }) => root.scrollWidth - root.clientWidth);
  assert.equal(wider, 0, "it scrolls sideways");
}

async function authorize(page, person) {
  await hold(page, person);
  await ask(page);
  await page.locator(".message .card").last().locator(".card-button").first().click();
  await frame(page).locator("button[value=agree]").waitFor();
}

const breakage = async (page, what) => {
  await page.locator(".tabs [data-tab=break]").click();
  await page.locator(`[data-what=${what}]`).click();
  await page.locator(`[data-what=${what}][aria-pressed=true]`).waitFor();
  await page.locator(".tabs [data-tab=chat]").click();
};

test("result page after consent says authorized", async () => {
  const page = await open(browser, { size: PHONE, language: "zh" });
  await authorize(page, 0);
  await decide(page, "agree");
  await readable(await result(page, "good"), /授权成功/);
  await close(page);
});

test("result page after refusal says declined", async () => {
  const page = await open(browser, { size: PHONE });
  await authorize(page, 1);
  await decide(page, "decline");
  await readable(await result(page, "neutral"), /declined/i);
  await close(page);
});

test("result page after consent of another person says so", async () => {
  const page = await open(browser, { size: PHONE });
  await authorize(page, 1);
  await decide(page, "agree", 2);
  await readable(await result(page, "bad"), /\w/);
  await close(page);
});

test("result page after a lost answer offers a retry", async () => {
  const page = await open(browser, { size: PHONE });
  await breakage(page, "lost_answer");
  await authorize(page, 2);
  await decide(page, "agree");
  await readable(await result(page, "bad"), /\w/);
  await close(page);
});

test("result page of a slow exchange waits and reloads", async () => {
  const page = await open(browser, { size: PHONE });
  await authorize(page, 0);
  await page.locator("#close-sheet").click();
  await breakage(page, "slow_lark");
  await page.locator(".message .card").last().locator(".card-button").first().click();
  await decide(page, "agree");
  await readable(await result(page, "waiting"), /\w/);
  await readable(await result(page, "good"), /Authorized/);
  await close(page);
});

test("result page of an unknown link says so", async () => {
  const page = await open(browser, { size: PHONE });
  const answer = await page.goto(new URL("/oauth/callback?state=nobodys&code=none", page.url()).href);
  assert.equal(answer.status(), 404);
  await readable(page.locator("main"), /\w/);
  await close(page);
});

test("unreachable consent page shows an error page", async () => {
  const page = await open(browser, { size: PHONE });
  await hold(page, 1);
  await ask(page);
  await breakage(page, "lark_down");
  await page.locator(".message .card").last().locator(".card-button").first().click();
  await frame(page).getByText("The platform does not answer").waitFor();
  await close(page);
});
