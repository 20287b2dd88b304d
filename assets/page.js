// Keys, picking in figures and in the token strip. No library, no request; what is picked goes to Python through
// the hidden block made by explorer/ui/bridge.py, which calls explorerPage.connect.
(() => {
  "use strict";

  // The block that sends, set when it is mounted; a page whose block is gone sends nothing.
  let bridge = null;
  const send = (event, data) => {
    if (bridge && document.contains(bridge.element)) bridge.senders[event](data);
  };

  // One message after the last of a burst of key presses: a round trip costs more than a key press.
  let waiting = null;
  const sendSoon = (event, data) => {
    clearTimeout(waiting);
    waiting = setTimeout(() => send(event, data), 90);
  };

  // --- figures -------------------------------------------------------------------------------------------------

  const insideOf = (plot, id) => plot.closest("#" + id) !== null;

  function onPoint(plot, event) {
    const data = event.points && event.points[0] && event.points[0].customdata;
    if (insideOf(plot, "map-plot") && typeof data === "string") send("pick", { name: data });
    if (insideOf(plot, "overview-plot") && Array.isArray(data)) send("cell", { layer: data[0], name: data[1] });
  }

  // Plots are mounted anew on each update, so handlers are put on whichever plot has none yet.
  const known = new WeakSet();
  function adopt(plot) {
    if (known.has(plot) || typeof plot.on !== "function") return;
    known.add(plot);
    plot._context.toImageButtonOptions = { format: "svg", filename: "lora-library-explorer" };
    plot._context.displaylogo = false;
    plot.on("plotly_click", (event) => onPoint(plot, event));
    if (!insideOf(plot, "map-plot")) return;
    plot.on("plotly_selected", (event) => {
      if (!event) return;
      const names = event.points.map((point) => point.customdata).filter((name) => typeof name === "string");
      pressCluster(null);
      send("lasso", { names });
    });
    const showAll = () => {
      pressCluster(null);
      send("lasso", { names: [] });
    };
    // A drawn box is gone once the plot is mounted anew, so a double click counts as "show all" in any case.
    plot.on("plotly_deselect", showAll);
    plot.on("plotly_doubleclick", showAll);
  }

  let due = false;
  function look() {
    if (due) return;
    due = true;
    requestAnimationFrame(() => {
      due = false;
      document.querySelectorAll(".js-plotly-plot").forEach(adopt);
    });
  }

  // --- the strip -----------------------------------------------------------------------------------------------

  function choose(option) {
    const list = option.closest(".lx-token-list");
    list.querySelectorAll("[data-token]").forEach((other) => {
      const chosen = other === option;
      other.setAttribute("aria-selected", String(chosen));
      other.tabIndex = chosen ? 0 : -1;
    });
    option.focus({ preventScroll: true });
    option.scrollIntoView({ block: "nearest", inline: "nearest" });
    sendSoon("token", { index: Number(option.dataset.token) });
  }

  // The token above or below: the nearest one, left to right, in the next line of the strip.
  function inNextLine(options, option, direction) {
    const here = option.getBoundingClientRect();
    const middle = here.left + here.width / 2;
    const candidates = options
      .map((other) => ({ other, box: other.getBoundingClientRect() }))
      .filter(({ box }) => (box.top - here.top) * direction > here.height / 2);
    if (!candidates.length) return option;
    const line = direction > 0
      ? Math.min(...candidates.map(({ box }) => box.top))
      : Math.max(...candidates.map(({ box }) => box.top));
    const distance = ({ box }) => Math.abs(box.left + box.width / 2 - middle);
    return candidates
      .filter(({ box }) => Math.abs(box.top - line) < 2)
      .reduce((best, next) => (distance(next) < distance(best) ? next : best)).other;
  }

  function moveInStrip(event, option) {
    const options = [...option.closest(".lx-token-list").querySelectorAll("[data-token]")];
    const at = options.indexOf(option);
    const next = {
      ArrowLeft: () => options[Math.max(at - 1, 0)],
      ArrowRight: () => options[Math.min(at + 1, options.length - 1)],
      ArrowUp: () => inNextLine(options, option, -1),
      ArrowDown: () => inNextLine(options, option, 1),
      Home: () => options[0],
      End: () => options[options.length - 1],
      Enter: () => option,
      " ": () => option,
    }[event.key];
    if (!next) return;
    event.preventDefault();
    choose(next());
  }

  // --- the legend: pressing an entry again shows all clusters ------------------------------------------------------

  function pressCluster(entry) {
    const pressed = entry !== null && entry.getAttribute("aria-pressed") !== "true";
    document.querySelectorAll("[data-cluster]").forEach((other) => {
      other.setAttribute("aria-pressed", String(pressed && other.dataset.cluster === entry.dataset.cluster));
    });
    if (entry) send("lasso", pressed ? { cluster: Number(entry.dataset.cluster) } : { names: [] });
  }

  // --- keys and clicks -----------------------------------------------------------------------------------------

  const press = (id) => {
    const found = document.getElementById(id);
    const button = found && (found.matches("button") ? found : found.querySelector("button"));
    if (button && !button.disabled) button.click();
  };
  const isTyping = (target) => target.matches("input, textarea, select, [contenteditable='true']");

  document.addEventListener("keydown", (event) => {
    const target = event.target instanceof Element ? event.target : document.body;
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
      event.preventDefault();
      press("route-button");
    } else if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing) {
      return;
    } else if (event.key === "Escape") {
      press("stop-button");
    } else if (event.key === "/" && !isTyping(target)) {
      const prompt = document.querySelector("#prompt textarea, #prompt input");
      if (prompt) {
        event.preventDefault();
        prompt.focus();
      }
    } else {
      const option = target.closest("[data-token]");
      if (option) moveInStrip(event, option);
    }
  }, true);

  document.addEventListener("click", (event) => {
    if (!(event.target instanceof Element)) return;
    const token = event.target.closest("[data-token]");
    if (token) return choose(token);
    const adapter = event.target.closest("[data-adapter]");
    if (adapter) return send("pick", { name: adapter.dataset.adapter });
    const cluster = event.target.closest("[data-cluster]");
    if (cluster) pressCluster(cluster);
  });

  new MutationObserver(look).observe(document.documentElement, { childList: true, subtree: true });

  window.explorerPage = {
    connect(element, senders) {
      bridge = { element, senders };
      look();
    },
  };
})();
