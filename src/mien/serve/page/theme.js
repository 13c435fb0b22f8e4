// Light or dark, set before the first paint: that is why this is not a module. The system decides until the switch is used.
(() => {
  const KEY = "mien-theme";
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const chosen = () => {
    try { return localStorage.getItem(KEY); } catch { return null; } // storage may be blocked
  };
  const apply = () => {
    document.documentElement.dataset.theme = chosen() ?? (dark.matches ? "dark" : "light");
    document.dispatchEvent(new Event("themechange"));
  };
  apply();
  dark.addEventListener("change", apply);
  document.addEventListener("DOMContentLoaded", () => {
    const button = document.getElementById("theme");
    const label = () => button.setAttribute("aria-pressed", document.documentElement.dataset.theme === "dark");
    label();
    document.addEventListener("themechange", label);
    button.addEventListener("click", () => {
      const next = document.documentElement.dataset.theme === "dark" ? "light" : "dark";
      try { localStorage.setItem(KEY, next); } catch { /* then it lasts until the page is left */ }
      document.documentElement.dataset.theme = next;
      document.dispatchEvent(new Event("themechange"));
    });
  });
})();
