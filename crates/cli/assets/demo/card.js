// Renders the elements of Card JSON 2.0 that larkauth's cards use.

const el = (tag, name, ...children) => {
  const node = document.createElement(tag);
  if (name) node.className = name;
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
};

// Returns a text in the reader's language, or its default content.
const say = (text, language) =>
  (text && text.i18n_content && text.i18n_content[language === "zh" ? "zh_cn" : "en_us"]) || (text && text.content) || "";

const sizes = { notation: "small", heading: "large" };

const behaviour = (button, type) => (button.behaviors || []).find((one) => one.type === type);

function drawElement(element, context) {
  switch (element.tag) {
    case "div": {
      const text = element.text || {};
      const node = el("p", `text ${sizes[text.text_size] || ""} ${text.text_color || ""}`);
      node.textContent = say(text, context.language);
      return node;
    }
    case "markdown":
      return el("p", "text", say(element, context.language));
    case "hr":
      return el("hr");
    case "column_set":
      return el("div", "columns", ...(element.columns || []).map((column) => el("div", "", ...drawAll(column.elements, context))));
    case "button": {
      const node = el("button", `card-button ${element.type || "default"}`, say(element.text, context.language));
      node.type = "button";
      const index = context.buttons++;
      const page = behaviour(element, "open_url");
      const calls = Boolean(behaviour(element, "callback"));
      node.addEventListener("click", () => context.press({ index, calls, url: page && page.default_url, node }));
      return node;
    }
    default:
      return null;
  }
}

const drawAll = (elements, context) => (elements || []).map((element) => drawElement(element, context));

// Returns the card as a node. `press` receives the index of the clicked button, in reading order.
export function drawCard(card, language, press) {
  const header = card.header || {};
  const context = { language, press, buttons: 0 };
  return el(
    "article",
    `card ${header.template || "blue"}`,
    el("h3", "", say(header.title, language)),
    el("div", "card-body", ...drawAll((card.body || {}).elements, context)),
  );
}

export { el };
