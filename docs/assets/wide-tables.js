// Tables that are wider than the page scroll sideways; the Tab key reaches them, so that arrow keys can scroll them.
new MutationObserver(() => {
  for (const table of document.querySelectorAll(".md-typeset__scrollwrap:not([tabindex])")) table.tabIndex = 0;
}).observe(document, { childList: true, subtree: true });
