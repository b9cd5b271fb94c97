"use strict";
// What the page holds: see page.py. Coordinates are 0-based, the end not included.
const shown = JSON.parse(document.getElementById("shown").textContent);
const BASE_COLOURS = { A: "#009e73", C: "#0072b2", G: "#b07d00", T: "#d55e00", N: "#888888" };
const LETTER_FROM = 5; // pixels a base: narrower ones are bars
const GLYPH = 40; // pixels, of the letter that is then stretched

const sequences = shown.sequences.map((one) => ({ ...one, end: one.start + one.bases.length }));
const baseAt = (contig, position) => {
  const piece = sequences.find((one) => one.contig === contig && one.start <= position && position < one.end);
  return piece ? piece.bases[position - piece.start] : "N";
};

// Bases of [start, end), * where the page has none. igv.js itself would read one stretch of a contig, though two be in view.
const basesOf = async (contig, start, end) => {
  const letters = new Array(Math.max(end - start, 0)).fill("*");
  for (const one of sequences.filter((piece) => piece.contig === contig)) {
    for (let at = Math.max(start, one.start); at < Math.min(end, one.end); at++) letters[at - start] = one.bases[at - one.start];
  }
  return letters.join("");
};

// Numbers are stored as the base64 of little-endian float32: all digits of the file they come from, in few letters.
const numbers = (text) => {
  const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const view = new DataView(bytes.buffer);
  return Array.from({ length: bytes.length / 4 }, (_, index) => view.getFloat32(4 * index, true));
};

const featuresOf = (runs) => runs.flatMap((one) => numbers(one.values).map((value, index) => {
  const start = one.first + index * one.step;
  return { chr: one.contig, start, end: start + one.step, value };
}));

// igv.js puts the texts of a popup into it as HTML.
const safe = (text) => text.replace(/[&<>]/g, (letter) => `&#${letter.charCodeAt(0)};`);

// The shortest text that is this float32.
const digits = (value) => {
  for (let count = 1; count < 10; count++) {
    const text = value.toPrecision(count);
    if (Math.fround(Number(text)) === value) return String(Number(text));
  }
  return String(value);
};

// Bars, or letters of the reference as high as their number. The tracks of igv.js itself round numbers in their popups.
class NumbersTrack extends igv.TrackBase {
  init(config) {
    super.init(config);
    this.type = "numbers";
    this.autoscale = config.top === null;
    this.autoscaleGroup = config.axis || undefined;
    this.dataRange = { min: 0, max: config.top === null ? 1 : config.top };
    this.features = featuresOf(config.runs);
  }

  async getFeatures(contig, start, end) {
    return this.features.filter((one) => one.chr === contig && one.start < end && one.end > start);
  }

  doAutoscale(features) {
    const low = features.reduce((least, one) => Math.min(least, one.value), 0);
    const high = features.reduce((most, one) => Math.max(most, one.value), 0);
    return low === high ? { min: 0, max: 1 } : { min: low, max: high };
  }

  menuItemList() {
    return this.numericDataMenuItems();
  }

  draw({ context, features, bpStart, bpPerPixel, pixelWidth, pixelHeight }) {
    const { min, max } = this.dataRange;
    const heightOf = (value) => (pixelHeight - 2) * (Math.min(Math.max(value, min), max) / (max - min));
    const zero = 1 + heightOf(max);
    for (const one of features || []) { // where nothing is known nothing is drawn, not even the line of zero
      const left = (one.start - bpStart) / bpPerPixel;
      const width = (one.end - one.start) / bpPerPixel;
      if (left + width < 0 || left > pixelWidth) continue;
      const height = heightOf(one.value);
      context.fillStyle = "#c5ccd3";
      context.fillRect(left, zero, Math.max(width, 1), 1);
      if (this.config.letters && width >= LETTER_FROM && one.end - one.start === 1) {
        drawLetter(context, baseAt(one.chr, one.start), left, zero, width, height);
      } else {
        context.globalAlpha = one.value < 0 ? 0.5 : 1;
        context.fillStyle = this.config.color;
        context.fillRect(left, Math.min(zero, zero - height), Math.max(width, 1), Math.abs(height));
        context.globalAlpha = 1;
      }
    }
  }

  paintAxis(context, width, height) {
    context.fillStyle = "#fff";
    context.fillRect(0, 0, width, height);
    if (!this.trackView.viewports.some((one) => (one.cachedFeatures || []).length)) return; // nothing is known here
    context.fillStyle = "#5b6875";
    context.font = "10px system-ui, sans-serif";
    context.textAlign = "right";
    context.fillText(Number(this.dataRange.max.toPrecision(2)), width - 4, 10);
    context.fillText(Number(this.dataRange.min.toPrecision(2)), width - 4, height - 3);
  }

  popupData(click, features) {
    const found = features || this.clickedFeatures(click);
    return found.slice(0, 5).flatMap((one) => [
      { name: "Place", value: `${one.chr}:${one.start + 1}-${one.end}` },
      ...(this.config.letters ? [{ name: "Base", value: baseAt(one.chr, one.start) }] : []),
      { name: "Value", value: digits(one.value) },
    ]).concat(this.config.facts.map(([name, value]) => ({ name, value: safe(value) })));
  }
}

function drawLetter(context, base, left, zero, width, height) {
  context.save();
  context.font = `bold ${GLYPH}px "DejaVu Sans", Arial, sans-serif`;
  const box = context.measureText(base);
  const wide = box.actualBoundingBoxRight + box.actualBoundingBoxLeft;
  context.translate(left + 0.05 * width, zero);
  context.scale((0.9 * width) / wide, height / box.actualBoundingBoxAscent); // below zero the letter stands on its head
  context.fillStyle = BASE_COLOURS[base] || BASE_COLOURS.N;
  context.fillText(base, box.actualBoundingBoxLeft, 0);
  context.restore();
}

const MAKERS = {
  numbers: (one) => ({ type: "numbers", id: one.name, name: one.label, color: one.colour, runs: one.runs, letters: one.letters,
    top: one.top, axis: one.axis, facts: one.facts, height: one.letters ? 70 : 40,
    description: safe([`${one.name}: ${one.about}`, ...one.facts.map((fact) => fact.join(" "))].join("; ")) }),
  variants: (one) => ({ type: "variant", format: "vcf", indexed: false, visibilityWindow: -1, displayMode: "EXPANDED",
    url: `data:text/plain;base64,${one.vcf}`, height: 50 }),
  features: (one) => ({ type: "annotation", displayMode: "EXPANDED", height: 50,
    features: one.features.map(([chr, start, end, name, strand]) => ({ chr, start, end, name, strand })) }),
};

// All listed places, faint, and the one that is looked at: igv.js lays these colours over the bars.
function highlights(chosen) {
  const places = new Map(shown.tables.flat().map((place) => [place.join(" "), place])); // each once
  places.delete(chosen.join(" "));
  const set = (name, alpha, some) => ({ name, color: `rgba(240, 200, 80, ${alpha})`,
    features: some.map(([chr, start, end]) => ({ chr, start, end })) });
  const others = places.size ? [set("Listed places", 0.06, [...places.values()])] : [];
  return [...others, set("Chosen place", 0.25, [chosen])];
}

function tracksOf() {
  const roi = highlights(shown.tables.flat()[shown.first]);
  const tracks = shown.tracks.map((one, order) => ({ name: one.name, ...MAKERS[one.kind](one), order: order + 1 }));
  return { roi, tracks: [{ type: "sequence", name: "Sequence", order: -1 }, ...tracks] }; // igv.js would add one anyway
}

function fastaOf() {
  const lines = sequences.map((one) =>
    `>${one.contig}:${one.start + 1}-${one.end} @len=${shown.lengths[one.contig]}\n${one.bases}\n`);
  return `data:text/plain;base64,${btoa(lines.join(""))}`;
}

const placeOf = ([contig, start, end]) => {
  const low = Math.max(start - shown.margin, 0);
  return `${contig}:${low + 1}-${Math.min(end + shown.margin, shown.lengths[contig])}`;
};

// igv.js lets its toolbar overflow where it is narrow, and keeps its styles in a shadow tree, out of reach of the page's.
function wrapToolbar() {
  const places = [document.getElementById("browser"), ...document.querySelectorAll("#browser *")];
  const root = places.map((one) => one.shadowRoot).find((one) => one);
  if (!root) return;
  const style = document.createElement("style");
  style.textContent = `.igv-navbar { flex-wrap: wrap !important; height: auto !important; }
    .igv-navbar .igv-navbar-left-container, .igv-navbar .igv-navbar-genomic-location {
      flex-wrap: wrap !important; height: auto !important; min-width: 0; }
    .igv-windowsize-panel-container { white-space: nowrap; }`;
  root.append(style);
}

function listen(browser) {
  const rows = [];
  document.querySelectorAll(".view .table").forEach((box, number) => {
    [...box.querySelectorAll("tbody tr")].forEach((row, index) => {
      const go = async () => {
        for (const other of rows) other.classList.toggle("shown", other === row);
        document.getElementById("browser").scrollIntoView({ block: "nearest" }); // on a narrow page it lies below
        const place = shown.tables[number][index];
        await browser.clearROIs();
        await browser.loadROI(highlights(place));
        await browser.search(placeOf(place));
      };
      rows.push(row);
      row.tabIndex = 0;
      row.addEventListener("click", go);
      row.addEventListener("keydown", (event) => { if (event.key === "Enter") go(); });
    });
  });
  if (!rows.length) return;
  rows[shown.first].classList.add("shown");
  // The row of the first place may lie below the edge of its table.
  const box = rows[shown.first].closest(".scroll");
  box.scrollTop = rows[shown.first].offsetTop - box.clientHeight / 2;
}

async function start() {
  igv.registerTrackClass("numbers", NumbersTrack);
  const browser = await igv.createBrowser(document.getElementById("browser"), {
    loadDefaultGenomes: false,
    search: false, // names are looked up on a server
    showChromosomeWidget: Object.keys(shown.lengths).length > 1,
    showSVGButton: true,
    reference: { id: "mfd", name: shown.genome, fastaURL: fastaOf(), indexed: false, wholeGenomeView: false },
    locus: placeOf(shown.tables.flat()[shown.first]),
    ...tracksOf(),
  });
  wrapToolbar();
  const sequence = browser.trackViews.find((view) => view.track.type === "sequence");
  if (shown.has_sequence) {
    browser.genome.getSequence = basesOf;
    sequence.clearCachedFeatures();
    await browser.updateViews();
  } else {
    browser.removeTrack(sequence.track);
  }
  listen(browser);
  return browser;
}

window.mfdView = start();
window.mfdView.catch((error) => {
  const told = document.getElementById("failed");
  told.textContent = `The browser cannot be drawn: ${error.message || error}`;
  told.hidden = false;
});
