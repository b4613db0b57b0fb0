// Runs before the first paint, so that no other theme flashes: a classic script, because modules wait for the document.
try {
  const theme = localStorage.getItem("echoic-theme");
  if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
} catch {
  // A browser that keeps nothing follows the system.
}
