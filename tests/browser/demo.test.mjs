// The demo page, clicked through as a person would.

import assert from "node:assert/strict";
import { after, afterEach, before, test } from "node:test";

import { DESKTOP, PHONE, ask, close, colour, decide, frame, hold, launch, open, picture, repair, result, shut } from "./page.mjs";

let browser;
before(async () => { browser = await launch(); });
afterEach(repair);
after(async () => { await browser?.close(); });

const titles = (page) => page.locator("#timeline .title").allTextContents();

test("somebody agrees, and a service reads the token", async () => {
  const page = await open(browser);
  const card = await ask(page, "message");
  assert.match(await card.textContent(), /The weekly report needs to read your calendar/);
  await colour(card, "blue");
  await card.getByRole("button", { name: "Authorize" }).click();
  await page.locator("#toast", { hasText: "Please confirm on the page that opened" }).waitFor();
  await decide(page, "agree");
  await result(page, "good");
  assert.match(await page.locator("#address").textContent(), /\/oauth\/callback$/);
  await shut(page);
  await colour(page.locator(".message .card").last(), "green");

  await page.locator("#read-token").click();
  const token = page.locator("#token");
  await token.getByText("HTTP 200").waitFor();
  const text = await token.textContent();
  assert.match(text, /"access_token": "u-.{4}… \(\d+ characters\)"/);
  assert.match(text, /valid for another (1:59:\d\d|2:00:00)/);
  assert.match(text, /curl -H "Authorization: Bearer \$API_KEY"/);
  const before = await page.locator("#expires").textContent();
  await page.waitForFunction((old) => document.getElementById("expires").textContent !== old, before);

  const inside = await titles(page);
  for (const title of ["REST: an invitation is created", "The session is stored", "Sends the card", "A push over the long connection",
    "Message: a click", "Exchanges the code", "The session has ended: completed", "The card is updated (green)", "REST: the token is read"]) {
    assert.ok(inside.includes(title), `${title} is missing in ${inside.join(" | ")}`);
  }
  await page.getByRole("button", { name: "Exchanges the code" }).last().click();
  assert.match(await page.locator(".fields").textContent(), /auth\.oauth-redirects\.handle.*session_id/);
  await page.getByRole("button", { name: "Exchanges the code" }).last().click();
  await page.locator("#token").getByLabel("close").click();
  await close(page);
});

test("somebody declines on the card, somebody else on the consent page", async () => {
  const page = await open(browser);
  await hold(page, 1);
  let card = await ask(page, "concise");
  await card.getByRole("button", { name: "Decline" }).click();
  await colour(page.locator(".message .card").last(), "grey");
  await page.locator("#read-token").click();
  await page.locator("#token", { hasText: "authentication_required" }).waitFor();

  card = await ask(page);
  await card.getByRole("button", { name: "Authorize" }).click();
  await decide(page, "decline");
  await result(page, "neutral");
  await shut(page);
  await colour(page.locator(".message .card").last(), "grey");
  await close(page);
});

test("somebody else consents, nothing is stored, and the card offers to try again", async () => {
  const page = await open(browser);
  await hold(page, 2);
  const card = await ask(page);
  await card.getByRole("button", { name: "Authorize" }).click();
  await decide(page, "agree", 0);
  await result(page, "bad");
  await shut(page);
  const failed = page.locator(".message .card").last();
  await colour(failed, "red");
  await failed.getByRole("button", { name: "Try again" }).click();
  await colour(page.locator(".message .card").last(), "blue");
  await close(page);
});

test("the token's answer is lost: the session fails visibly, trying again works", async () => {
  const page = await open(browser);
  await page.getByRole("button", { name: "lose the token’s answer" }).click();
  await page.locator(".breakage[aria-pressed=true]").waitFor();
  let card = await ask(page);
  await card.getByRole("button", { name: "Authorize" }).click();
  await decide(page, "agree");
  await result(page, "bad");
  await shut(page);
  card = page.locator(".message .card").last();
  await colour(card, "red");
  await card.getByRole("button", { name: "Try again" }).click();
  await colour(page.locator(".message .card").last(), "blue");
  await page.locator(".message .card").last().getByRole("button", { name: "Authorize" }).click();
  await decide(page, "agree");
  await result(page, "good");
  await shut(page);
  await colour(page.locator(".message .card").last(), "green");
  await close(page);
});

test("a cut connection comes back, and a click works again", async () => {
  const page = await open(browser);
  await hold(page, 1);
  await ask(page);
  await page.getByRole("button", { name: "cut the connection" }).click();
  await page.locator("#timeline", { hasText: "The long connection is lost" }).waitFor();
  await page.locator("#timeline", { hasText: "Long connection: connected" }).waitFor();
  await page.locator("#ready.good").waitFor();
  await page.locator(".message .card").last().getByRole("button", { name: "Decline" }).click();
  await colour(page.locator(".message .card").last(), "grey");
  await close(page);
});

test("a connection that went silent is noticed and replaced", async () => {
  const page = await open(browser);
  await hold(page, 1);
  const card = await ask(page);
  await page.getByRole("button", { name: "silent connection" }).click();
  await card.getByRole("button", { name: "Decline" }).click();
  // What the person sees meanwhile is Lark's own error.
  await page.locator("#toast.error", { hasText: "That did not work" }).waitFor();
  await page.locator("#ready.bad").waitFor();
  await page.locator("#ready.good").waitFor();
  await page.locator(".message .card").last().getByRole("button", { name: "Decline" }).click();
  await colour(page.locator(".message .card").last(), "grey");
  await close(page);
});

test("Lark is down until it is repaired", async () => {
  const page = await open(browser);
  await hold(page, 2);
  await page.getByRole("button", { name: "Lark is down" }).click();
  await page.locator("#ready.bad").waitFor();
  const cards = page.locator(".message .card");
  const before = await cards.count();
  await page.locator("#ask [type=submit]").click();
  await page.locator("#timeline", { hasText: "A message will be tried again" }).waitFor();
  assert.equal(await cards.count(), before);
  await page.locator("#repair").click();
  // What waited is delivered by itself.
  await cards.nth(before).waitFor();
  await page.locator("#ready.good").waitFor();
  await close(page);
});

test("the page speaks Chinese and English, and remembers which", async () => {
  const page = await open(browser, { language: "zh" });
  await page.getByRole("button", { name: "请求授权" }).waitFor();
  assert.equal(await page.locator("html").getAttribute("lang"), "zh-CN");
  await hold(page, 1);
  await ask(page);
  const card = page.locator(".message .card").last();
  await card.getByRole("button", { name: "授权", exact: true }).click();
  await frame(page).getByRole("button", { name: "同意授权" }).waitFor();
  await decide(page, "decline");
  assert.match(await (await result(page, "neutral")).locator("h1").textContent(), /[\u4e00-\u9fff]/);
  await shut(page);
  await page.locator("#language").click();
  await page.getByRole("button", { name: "Ask for consent" }).waitFor();
  await page.reload();
  await page.getByRole("button", { name: "Ask for consent" }).waitFor();
  await close(page);
});

test("only the page itself may ask for anything", async () => {
  const page = await open(browser);
  const origin = new URL(page.url()).origin;
  const ask = (headers) => page.request.post(`${origin}/api/repair`, { headers, data: {} });
  assert.equal((await ask({ origin: "http://elsewhere.example.com" })).status(), 403);
  assert.equal((await ask({})).status(), 403);
  assert.equal((await page.request.get(origin, { headers: { host: "elsewhere.example.com" } })).status(), 403);
  assert.equal((await ask({ origin })).status(), 204);
  await close(page);
});

for (const language of ["en", "zh"]) {
  const suffix = language === "zh" ? ".zh" : "";

  test(`pictures at desktop size (${language})`, async () => {
    const page = await open(browser, { size: DESKTOP, language });
    const card = await ask(page, "message");
    await card.locator(".card-button").first().click();
    await decide(page, "agree");
    await result(page, "good");
    await shut(page);
    await colour(page.locator(".message .card").last(), "green");
    await ask(page);
    await page.locator("#toast").waitFor({ state: "hidden" });
    await picture(page, `demo-desktop${suffix}`);
    const overflow = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
    assert.ok(overflow <= 0, "the page is wider than the window");
    await close(page);
  });

  test(`a phone has everything in reach (${language})`, async () => {
    const page = await open(browser, { size: PHONE, language });
    await hold(page, 2);
    await ask(page);
    await page.locator(".message .card").last().locator(".card-button").first().scrollIntoViewIfNeeded();
    await picture(page, `demo-phone${suffix}`);
    await page.locator(".message .card").last().locator(".card-button").first().click();
    await decide(page, "agree");
    const good = await result(page, "good");
    const box = await good.boundingBox();
    assert.ok(box.x >= 0 && box.x + box.width <= PHONE.width, "the result page does not fit");
    await page.locator("#toast").waitFor({ state: "hidden" });
    await picture(page, `result-phone${suffix}`);
    await shut(page);
    await page.locator(".tabs [data-tab=inside]").click();
    await page.locator("#timeline .action").last().waitFor();
    await picture(page, `inside-phone${suffix}`);
    await page.locator(".tabs [data-tab=break]").click();
    await page.locator(".breakage").last().waitFor();
    const overflow = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
    assert.ok(overflow <= 0, "the page is wider than the phone");
    await close(page);
  });
}

// The last one: what it leaves in the dead letters stays there.
test("an event that nobody knows is kept for a person to look at", async () => {
  const page = await open(browser);
  await page.getByRole("button", { name: "an unknown event" }).click();
  await page.locator(".part.warn", { hasText: "dead letters" }).waitFor();
  await close(page);
});
