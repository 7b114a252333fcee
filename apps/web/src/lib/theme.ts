export type Theme = "system" | "light" | "dark";
const KEY = "reef.theme";

export function theme(): Theme {
  const kept = localStorage.getItem(KEY);
  return kept === "light" || kept === "dark" ? kept : "system";
}

/** Applies a choice; `light-dark()` in the tokens follows `color-scheme`. */
export function setTheme(choice: Theme): void {
  if (choice === "system") localStorage.removeItem(KEY);
  else localStorage.setItem(KEY, choice);
  document.documentElement.style.colorScheme = choice === "system" ? "" : choice;
}
