// The timeline: one row for each entry, one column for each part, a line from each entry to the next.

import { el } from "./card.js";
import { describe, laneNames, lanes } from "./texts.js";

const KEPT = 300;
export const NARROW = matchMedia("(max-width: 860px)");
const SVG = "http://www.w3.org/2000/svg";

// Width of a lane and height of a row. A narrow lane leaves the title more room, in up to three lines.
const width = () => (NARROW.matches ? 14 : 26);
const height = () => (NARROW.matches ? 42 : 36);
const centre = (lane) => (lanes.indexOf(lane) + 0.5) * width();

const svg = (tag, attributes) => {
  const node = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  return node;
};

const duration = (ms) => (ms < 1000 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(1)} s`);

// Returns the failure of a call or a request, if any.
const failure = ({ outcome, status }) => (outcome && outcome !== "ok" ? outcome : Number(status) >= 400 ? status : null);

// Draws the lanes, and the thread from the previous dot to this row's dot.
function graph(lane, from) {
  const drawing = svg("svg", { width: width() * lanes.length, height: height(), class: "graph", "aria-hidden": "true" });
  for (const other of lanes) {
    const x = centre(other);
    drawing.append(svg("line", { x1: x, y1: 0, x2: x, y2: height(), class: "rail" }));
  }
  const [x, y] = [centre(lane), height() / 2];
  if (from) {
    const start = centre(from);
    drawing.append(svg("path", { d: `M${start} ${-y} C${start} ${y / 3} ${x} ${-y / 3} ${x} ${y}`, class: "thread" }));
  }
  drawing.append(svg("circle", { cx: x, cy: y, r: 5, class: `dot ${lane}` }));
  return drawing;
}

export class Timeline {
  constructor(list, head, text) {
    this.list = list;
    this.head = head;
    this.text = text;
    this.rows = new Map();
    this.language = "en";
  }

  speak(language) {
    this.language = language;
    this.head.replaceChildren(
      ...lanes.map((lane) => el("span", lane, el("i", `dot ${lane}`), laneNames[lane][language === "zh" ? 0 : 1])),
    );
    const entries = [...this.rows.values()].map((row) => row.entry);
    this.clear();
    entries.forEach((entry) => this.show(entry));
  }

  clear() {
    this.rows.clear();
    this.last = null;
    this.list.replaceChildren(el("li", "empty", this.text("inside_empty")));
  }

  end() {
    this.list.scrollTop = this.list.scrollHeight;
  }

  // Adds an entry, or completes its row.
  show(entry) {
    const known = this.rows.get(entry.id);
    if (known) {
      known.entry = entry;
      this.fill(known);
      return;
    }
    if (this.rows.size === 0) this.list.replaceChildren();
    const atEnd = this.list.scrollHeight - this.list.scrollTop - this.list.clientHeight < 80;
    const row = { entry, item: el("li") };
    if (entry.kind === "action") {
      this.last = null;
    } else {
      const { lane } = describe(entry, this.language);
      row.graph = graph(lane, this.last);
      this.last = lane;
      this.light(lane);
    }
    this.rows.set(entry.id, row);
    this.fill(row);
    this.list.append(row.item);
    if (this.rows.size > KEPT) {
      const [oldest, gone] = this.rows.entries().next().value;
      gone.item.remove();
      this.rows.delete(oldest);
    }
    if (atEnd || entry.kind === "action") this.end();
  }

  fill(row) {
    const { entry, item } = row;
    const { title } = describe(entry, this.language);
    if (entry.kind === "action") {
      item.className = "action";
      item.replaceChildren(el("span", "", title));
      return;
    }
    const failed = failure(entry.fields);
    item.className = `${failed ? "warn" : entry.level.toLowerCase()} ${entry.open ? "open" : ""}`;
    const time = el("time", "", `+${duration(entry.ms)}`);
    const took = entry.took_ms === undefined ? null : el("span", "took", duration(entry.took_ms));
    const head = el("button", "entry", time, row.graph, el("span", "title", failed ? `${title} · ${failed}` : title), took);
    head.type = "button";
    head.setAttribute("aria-expanded", String(Boolean(row.expanded)));
    head.addEventListener("click", () => {
      row.expanded = !row.expanded;
      this.fill(row);
      item.scrollIntoView({ block: "nearest" });
    });
    const focused = item.contains(document.activeElement);
    item.replaceChildren(head);
    if (focused) head.focus();
    if (row.expanded) item.append(this.details(entry));
  }

  details(entry) {
    const list = el("dl", "fields");
    for (const [name, value] of Object.entries({ name: entry.name, ...entry.fields })) {
      list.append(el("dt", "", name), el("dd", "", value));
    }
    return list;
  }

  light(lane) {
    const node = this.head.querySelector(`.${lane} i`);
    if (!node) return;
    node.classList.remove("lit");
    // Reading the layout makes the browser restart the animation.
    void node.offsetWidth;
    node.classList.add("lit");
  }
}
