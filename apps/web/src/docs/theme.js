// @ts-check
// The documentation's appearance: the one that was chosen in the app (`lib/theme.ts`), and its choice. Served as it is.
(() => {
  const KEY = "reef.theme";
  const kept = localStorage.getItem(KEY);
  const apply = (/** @type {string | null} */ choice) => {
    document.documentElement.style.colorScheme = choice === "light" || choice === "dark" ? choice : "";
  };
  apply(kept);
  document.addEventListener("DOMContentLoaded", () => {
    const select = document.querySelector("#theme");
    if (!(select instanceof HTMLSelectElement)) return;
    select.value = kept === "light" || kept === "dark" ? kept : "system";
    select.hidden = false;
    select.addEventListener("change", () => {
      if (select.value === "system") localStorage.removeItem(KEY);
      else localStorage.setItem(KEY, select.value);
      apply(select.value);
    });
  });
})();
