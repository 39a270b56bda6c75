"use strict";
(() => {
  // A clip plays while it is pointed at or focused, and lets go of its file afterwards.
  const still = matchMedia("(prefers-reduced-motion: reduce)");
  for (const frame of document.querySelectorAll(".frame")) {
    const video = frame.querySelector("video");
    let hovered = false;
    let focused = false;
    const change = () => {
      if ((hovered || focused) && !still.matches) {
        if (video.paused) {
          frame.classList.add("playing");
          video.play().catch(() => frame.classList.remove("playing"));
        }
      } else if (frame.classList.contains("playing")) {
        frame.classList.remove("playing");
        video.pause();
        video.load();
      }
    };
    frame.addEventListener("pointerenter", (event) => {
      hovered = event.pointerType !== "touch";
      change();
    });
    frame.addEventListener("pointerleave", () => { hovered = false; change(); });
    frame.addEventListener("focus", () => { focused = frame.matches(":focus-visible"); change(); });
    frame.addEventListener("blur", () => { focused = false; change(); });
  }

  const form = document.querySelector(".filter");
  const items = [...document.querySelectorAll(".item")];
  if (items.length === 0) return;
  const output = form.querySelector("output");
  const texts = new Map();
  const text = (item) => {
    if (!texts.has(item)) {
      // What several jobs have in common is told once, above them.
      const shared = item.closest(".problems details")?.querySelector("summary").textContent ?? "";
      texts.set(item, `${item.textContent} ${shared}`.toLowerCase().replace(/\s+/g, " "));
    }
    return texts.get(item);
  };
  const filter = () => {
    const words = form.elements.words.value.toLowerCase().split(/\s+/).filter(Boolean);
    const tag = form.elements.tag.value;
    let shown = 0;
    for (const item of items) {
      const fits = (!tag || item.dataset.tags.split(" ").includes(tag))
        && words.every((word) => text(item).includes(word));
      item.hidden = !fits;
      shown += fits;
    }
    const narrowed = Boolean(tag || words.length);
    for (const part of document.querySelectorAll(".filtered, .filtered details:has(> .scroll)")) {
      const found = part.querySelector(".item:not([hidden])");
      part.hidden = narrowed && !found;
      if (narrowed && found && part.matches("details")) part.open = true;
    }
    const where = document.querySelector(".pages") ? " on this page" : "";
    output.textContent = narrowed ? `${shown} of ${items.length}${where}` : "";
  };
  form.addEventListener("input", filter);
  form.addEventListener("submit", (event) => event.preventDefault());
  form.hidden = false;
  filter(); // a browser may have kept what was typed
})();
