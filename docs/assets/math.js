// MathJax draws what arithmatex has marked, and numbers every equation that stands by itself.
window.MathJax = {
  tex: { inlineMath: [["\\(", "\\)"]], displayMath: [["\\[", "\\]"]], tags: "all" },
  options: { ignoreHtmlClass: ".*|", processHtmlClass: "arithmatex", enableMenu: false },
  startup: {
    async pageReady() {
      await MathJax.startup.defaultPageReady();
      // It breaks no lines: a formula in the text that is wider than a phone scrolls there by itself.
      for (const formula of document.querySelectorAll("span.arithmatex"))
        formula.classList.toggle("wide", formula.getBoundingClientRect().width > 240);
    },
  },
};
