// The demo page, used as a person would.

import assert from "node:assert/strict";
import { after, afterEach, before, test } from "node:test";

import { DESKTOP, PHONE, ask, close, colour, decide, frame, hold, launch, open, picture, repair, result, shut, tabTo } from "./page.mjs";

let browser;
before(async () => { browser = await launch(); });
afterEach(repair);
after(async () => { await browser?.close(); });

const titles = (page) => page.locator("#timeline .title").allTextContents();

test("consent on the card stores a token that a service can read", async () => {
  const page = await open(browser);
  const card = await ask(page, "message");
  assert.match(await card.textContent(), /For your weekly report/);
  await colour(card, "blue");
  await card.getByRole("button", { name: "Authorize" }).click();
  await page.locator("#page-toast", { hasText: "Please confirm on the page that opened" }).waitFor();
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
  await token.getByRole("button", { name: "Copy" }).click();
  await token.getByRole("button", { name: "Copied" }).waitFor();
  const [, key, url] = /curl -H "Authorization: (Bearer [^"]+)" (\S+\/token)/.exec(await page.evaluate(() => navigator.clipboard.readText()));
  assert.equal((await fetch(url, { headers: { authorization: key } })).status, 200);
  const before = await page.locator("#expires").textContent();
  await page.waitForFunction((old) => document.getElementById("expires").textContent !== old, before);

  const inside = await titles(page);
  for (const title of ["REST: a session is created", "The session is stored", "Sends the card", "A push over the long connection",
    "Message: a click", "Exchanges the code", "The session has ended: completed", "The card is updated (green)", "REST: the token is read"]) {
    assert.ok(inside.includes(title), `${title} is missing in ${inside.join(" | ")}`);
  }
  await page.getByRole("button", { name: "Exchanges the code" }).last().click();
  assert.match(await page.locator(".fields").textContent(), /auth\.oauth-redirects\.handle.*session_id/);
  await page.getByRole("button", { name: "Exchanges the code" }).last().click();
  await page.locator("#token").getByLabel("close").click();
  await close(page);
});

test("decline on the card or on the consent page rejects the session", async () => {
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

test("consent of another person stores nothing and offers a retry", async () => {
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

test("token is refreshed when two hours pass", async () => {
  const page = await open(browser);
  const card = await ask(page);
  await card.getByRole("button", { name: "Authorize", exact: true }).click();
  await decide(page, "agree");
  await result(page, "good");
  await shut(page);
  await colour(card, "green");
  const read = async () => {
    await page.locator("#read-token").click();
    await page.locator("#token").getByText("HTTP 200").waitFor();
    return Number(/"generation": (\d+)/.exec(await page.locator("#token").textContent())[1]);
  };
  const before = await read();
  await page.getByRole("button", { name: "Two hours pass" }).click();
  await page.locator("#expires", { hasText: "expired" }).waitFor();
  await page.locator("#token").getByLabel("close").click();
  assert.ok(await read() > before, "another generation");
  await page.locator("#timeline", { hasText: "Lark API: the refresh" }).waitFor();
  await close(page);
});

test("lost token answer fails the session and allows a retry", async () => {
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

test("cut connection is replaced and clicks work again", async () => {
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

test("silent connection is detected and replaced", async () => {
  const page = await open(browser);
  await hold(page, 1);
  const card = await ask(page);
  await page.getByRole("button", { name: "silent connection" }).click();
  await card.getByRole("button", { name: "Decline" }).click();
  // The person sees Lark's own error.
  await page.locator("#toast.error", { hasText: "The click failed" }).waitFor();
  await page.locator("#ready.bad").waitFor();
  await page.locator("#ready.good").waitFor();
  await page.locator(".message .card").last().getByRole("button", { name: "Decline" }).click();
  await colour(page.locator(".message .card").last(), "grey");
  await close(page);
});

test("Lark outage lasts until it is repaired", async () => {
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
  // Waiting messages are delivered without another click.
  await cards.nth(before).waitFor();
  await page.locator("#ready.good").waitFor();
  await close(page);
});

test("page language is switched and remembered", async () => {
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

test("request from another origin is refused", async () => {
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

  test(`screenshots at desktop size (${language})`, async () => {
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

  test(`layout on a phone keeps every control reachable (${language})`, async () => {
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
    await page.locator("#page-toast").waitFor({ state: "hidden" });
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

test("keyboard focus reaches every control and is never lost", async () => {
  const page = await open(browser);
  await hold(page, 1);
  const ask = page.locator("#ask [type=submit]");
  const messages = page.locator(".message");
  const before = await messages.count();
  await page.locator("#style").focus();
  await tabTo(page, ask);
  await page.keyboard.press("Enter");
  const message = messages.nth(before);
  await message.waitFor();
  assert.ok(await ask.evaluate((node) => node === document.activeElement), "asking lost the focus");

  const authorize = message.getByRole("button", { name: "Authorize" });
  await tabTo(page, authorize);
  await page.keyboard.press("Enter");
  await page.locator("#close-sheet:focus").waitFor();
  // The clicked card is redrawn.
  await page.locator("#page-toast").waitFor();
  await page.keyboard.press("Escape");
  await page.locator("#sheet").waitFor({ state: "hidden" });
  await message.getByRole("button", { name: "Open the page again" }).and(page.locator(":focus")).waitFor();

  await page.keyboard.press("Enter");
  const agree = frame(page).locator("button[value=agree]");
  await agree.waitFor();
  await tabTo(page, agree);
  await page.keyboard.press("Enter");
  await result(page, "good");
  await page.keyboard.press("Escape");
  await page.locator("#sheet").waitFor({ state: "hidden" });
  await colour(message.locator(".card"), "green");
  await messages.nth(before).and(page.locator(":focus")).waitFor();
  await close(page);
});

test("content behind an open dialog is inert until it closes", async () => {
  for (const size of [DESKTOP, PHONE]) {
    const page = await open(browser, { size });
    await hold(page, 1);
    const card = await ask(page);
    await card.getByRole("button", { name: "Authorize" }).click();
    const covered = page.locator(size === PHONE ? "#chat-tab, .bar, .tabs" : "#chat-tab");
    await page.locator("#page-toast").waitFor();
    assert.ok(await covered.evaluateAll((nodes) => nodes.every((node) => node.inert)), `${size.width}`);
    await shut(page);
    assert.ok(await page.locator("#page-toast").isHidden(), "the page's toast outlives it");
    assert.equal(await page.locator("[inert]").count(), 0);
    await close(page);
  }
});

const inside = (inner, outer) =>
  inner.x >= outer.x && inner.y >= outer.y && inner.x + inner.width <= outer.x + outer.width && inner.y + inner.height <= outer.y + outer.height;
const apart = (one, other) => one.y + one.height <= other.y || other.y + other.height <= one.y || one.x + one.width <= other.x || other.x + other.width <= one.x;

for (const [width, height] of [[1280, 800], [390, 844], [320, 640]]) {
  for (const language of ["en", "zh"]) {
    test(`consent page at ${width}x${height} can be answered and is not cut (${language})`, async () => {
      const page = await open(browser, { size: { width, height }, language });
      const card = await ask(page, "message");
      const { shown, wanted } = await page.locator("#message").evaluate((input) => {
        input.value = input.placeholder;
        const widths = { shown: input.clientWidth, wanted: input.scrollWidth };
        input.value = "";
        return widths;
      });
      assert.ok(wanted <= shown, "the example of a message is cut");
      await card.locator(".card-button").first().click();
      await frame(page).locator("button[value=agree]").waitFor();
      const toast = page.locator("#page-toast");
      await toast.waitFor();
      const [shown_at, said] = [await page.locator("#frame").boundingBox(), await toast.boundingBox()];
      assert.ok(inside(shown_at, { x: 0, y: 0, width, height }), "the page leaves the window");
      for (const button of ["agree", "decline"]) {
        assert.ok(inside(await frame(page).locator(`button[value=${button}]`).boundingBox(), shown_at), `${button} is out of sight`);
      }
      for (const other of ["#frame", "#address", "#close-sheet"]) {
        assert.ok(apart(said, await page.locator(other).boundingBox()), `the toast covers ${other}`);
      }
      await decide(page, "agree");
      await result(page, "good");
      await page.locator("#address", { hasText: "/oauth/callback" }).waitFor();
      assert.ok(await toast.isHidden(), "the toast outlives the page that it was about");
      await shut(page);
      await colour(page.locator(".message .card").last(), "green");
      if (width < 860) await page.locator(".tabs [data-tab=inside]").click();
      const cut = await page.locator("#timeline .entry .title, #timeline .action span").evaluateAll((nodes) =>
        // Letters may reach beyond their line, but not by half of one.
        nodes.filter((node) => node.scrollWidth > node.clientWidth || node.scrollHeight > node.clientHeight + 6).map((node) => node.textContent));
      assert.deepEqual(cut, []);
      await close(page);
    });
  }
}

test("chat message of a bot is counted and no dead letter", async () => {
  const page = await open(browser);
  await page.getByRole("button", { name: "a bot’s chat message" }).click();
  await page.locator("#timeline .entry", { hasText: "An event that is not larkauth’s" }).first().waitFor();
  assert.equal(await page.locator(".part.warn", { hasText: "dead letters" }).count(), 0);
  await close(page);
});
