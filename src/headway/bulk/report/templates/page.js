"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const tip = document.getElementById("tip");
  const plots = [...document.querySelectorAll(".plot")];
  const cursors = plots.map(plot => plot.querySelector(".cursor"));
  const width = 4000;
  const number = value => {
    for (const [size, unit] of [[1e9, "G"], [1e6, "M"], [1e4, "k"]])
      if (value >= size) return +(value / (unit === "k" ? 1e3 : size)).toPrecision(3) + unit;
    return (+value.toPrecision(3)).toLocaleString("en");
  };
  const units = {
    "%": value => Math.round(value * 100) + "%",
    "$": value => "$" + (value >= 1 ? value.toFixed(2) : value.toPrecision(2)),
    "s": value => value < 1 ? number(value * 1000) + " ms" : number(value) + " s",
    "/s": value => number(value) + "/s",
    "": number,
  };
  const column = x => {
    let low = 0, high = data.left.length - 1;
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (data.left[middle] <= x) low = middle; else high = middle - 1;
    }
    return low;
  };
  const hide = () => {
    tip.style.display = "none";
    for (const cursor of cursors) cursor.style.display = "none";
  };
  const show = (plot, i) => {
    const chart = data.charts[plot.dataset.chart];
    const middle = (data.left[i] + data.right[i]) / 2 / width;
    for (const cursor of cursors) {
      cursor.style.left = middle * 100 + "%";
      cursor.style.display = "block";
    }
    const when = document.createElement("p");
    when.textContent = data.when[i];
    const rows = [...chart.series].reverse().flatMap(one => {
      const value = one.values[i];
      if (value === null || (value === 0 && chart.series.length > 2)) return [];
      const row = document.createElement("div"), swatch = document.createElement("i");
      const name = document.createElement("span"), said = document.createElement("b");
      swatch.className = one.colour;
      name.textContent = one.name + " ";
      said.textContent = units[chart.unit](value);
      row.append(swatch, name, said);
      return [row];
    });
    if (!rows.length) when.textContent += ": none";
    tip.replaceChildren(when, ...rows);
    tip.style.display = "block";
    const box = plot.getBoundingClientRect(), own = tip.getBoundingClientRect();
    const at = box.left + middle * box.width;
    const left = at + own.width + 18 < innerWidth ? at + 12 : at - own.width - 12;
    tip.style.left = Math.max(6, Math.min(left, innerWidth - own.width - 6)) + "px";
    tip.style.top = Math.max(6, Math.min(box.top + 8, innerHeight - own.height - 6)) + "px";
  };
  for (const plot of plots) {
    let at = 0;
    const point = event => {
      const box = plot.getBoundingClientRect();
      show(plot, at = column((event.clientX - box.left) / box.width * width));
    };
    plot.addEventListener("pointermove", point);
    plot.addEventListener("pointerdown", point);
    plot.addEventListener("pointerleave", hide);
    plot.addEventListener("blur", hide);
    plot.addEventListener("keydown", event => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (event.key === "Escape") hide();
      if (!step) return;
      event.preventDefault();
      at = Math.max(0, Math.min(data.left.length - 1, at + step * (event.shiftKey ? 10 : 1)));
      show(plot, at);
    });
  }
  addEventListener("scroll", hide, { passive: true });
  addEventListener("beforeprint", hide);
})();
