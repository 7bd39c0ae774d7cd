// A part of a page that renews itself: what was unfolded stays unfolded, and the focus stays where it was.
"use strict";

(() => {
  const states = "details";
  const focusable = "a, summary, input, [tabindex]";
  let before = null;

  // Not while the page is hidden, and not while something is typed, which would be lost.
  document.addEventListener("htmx:beforeRequest", (event) => {
    const live = event.detail.elt;
    if (live.id !== "live") return;
    const typed = [...live.querySelectorAll("input:not([type])")].some((one) => one.value);
    if (document.hidden || typed) event.preventDefault();
  });

  document.addEventListener("htmx:afterOnLoad", () => palate.notify("")); // the server answers again

  document.addEventListener("htmx:beforeSwap", (event) => {
    const live = document.getElementById("live");
    if (event.detail.target !== live) return;
    before = {
      open: [...live.querySelectorAll(states)].map((one) => one.open),
      checked: [...live.querySelectorAll("input:checked")].map((one) => one.value),
      focus: [...live.querySelectorAll(focusable)].indexOf(document.activeElement),
    };
  });

  document.addEventListener("htmx:afterSettle", () => {
    const live = document.getElementById("live");
    if (!before || !live) return;
    [...live.querySelectorAll(states)].forEach((one, index) => { one.open = before.open[index] ?? one.open; });
    for (const one of live.querySelectorAll("input")) one.checked = before.checked.includes(one.value);
    [...live.querySelectorAll(focusable)][before.focus]?.focus({ preventScroll: true });
    before = null;
    palate.makeReachable();
  });
})();
