// The demo page of the compose stack, used as a person would: scripts/test-deploy runs it.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { ask, close, colour, decide, launch, open, result, shut } from "./page.mjs";

let browser;
before(async () => { browser = await launch(); });
after(async () => { await browser?.close(); });

test("consent through the proxy turns the card green and gives a token", async () => {
  const page = await open(browser);
  const card = await ask(page, "message");
  await colour(card, "blue");
  await card.getByRole("button", { name: "Authorize" }).click();
  await decide(page, "agree");
  await result(page, "good");
  assert.match(await page.locator("#address").textContent(), /\/oauth\/callback$/);
  await shut(page);
  await colour(page.locator(".message .card").last(), "green");
  await page.locator("#read-token").click();
  await page.locator("#token").getByText("HTTP 200").waitFor();
  await close(page);
});
