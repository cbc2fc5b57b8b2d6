//go:build browser

package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"

	"coeval/transforms/simulator/world"
)

// `make browser` runs these tests: they need Chromium.

var (
	shots   = flag.String("shots", "", "folder for screenshots, for people to look at")
	picture = flag.String("picture", "", "file for the README's picture of a report")
)

// hostilePrompts try actions that a page must prevent: to run, to load, to act on its text's
// direction, and to be wider than the screen.
var hostilePrompts = []string{
	`<script>console.error("ran")</script><img src=x onerror="console.error('ran')">`,
	`</div></section><style>body{display:none}</style><svg onload=console.error(1)>`,
	"\x1b[31mred\x1b]0;title\x07 \u202etxet\u2066 \u2028 {{.Out}} ${1} <!-- --> ]]>",
	strings.Repeat("w", 900_000),
	"<a href=\"javascript:console.error(1)\">x</a><iframe src=//example.com></iframe>",
}

func hostileFile(t *testing.T) string {
	t.Helper()
	var b strings.Builder
	for i := range 40 {
		line, err := json.Marshal(map[string]string{"prompt": fmt.Sprintf("%s %d", hostilePrompts[i%len(hostilePrompts)], i)})
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&b, "%s\n", line)
	}
	name := filepath.Join(t.TempDir(), "hostile.jsonl")
	if err := os.WriteFile(name, []byte(b.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

func newBrowser(t *testing.T) context.Context {
	t.Helper()
	options := chromedp.DefaultExecAllocatorOptions[:]
	if os.Geteuid() == 0 {
		options = append(options, chromedp.NoSandbox) // Chromium refuses to run as root with it
	}
	ctx, cancel := chromedp.NewExecAllocator(t.Context(), options...)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewContext(ctx)
	t.Cleanup(cancel)
	return ctx
}

// seen are the findings of the script below.
type seen struct {
	Title    string   `json:"title"`
	Width    int      `json:"width"`
	Scroll   int      `json:"scroll"`
	Figures  int      `json:"figures"`
	Problems []string `json:"problems"`
	Ground   string   `json:"ground"`
}

// look reports whether the page is wider than the screen, and which parts can't be seen: figures and
// text of no size, and text with too little contrast with the ground behind it (4.5 for text and 3
// for the marks of a figure, as WCAG 2.2 asks for).
const look = `(() => {
  const problems = [];
  const ctx = Object.assign(document.createElement("canvas"), {width: 1, height: 1}).getContext("2d", {willReadFrequently: true});
  const rgba = c => { ctx.clearRect(0, 0, 1, 1); ctx.fillStyle = c; ctx.fillRect(0, 0, 1, 1); const d = ctx.getImageData(0, 0, 1, 1).data; return [d[0], d[1], d[2], d[3] / 255]; };
  const over = (top, bottom, more = 1) => { const a = top[3] * more; return [0, 1, 2].map(i => top[i] * a + bottom[i] * (1 - a)).concat(1); };
  const ground = e => { for (; e; e = e.parentElement) { const c = rgba(getComputedStyle(e).backgroundColor); if (c[3] === 1) return c; } return [255, 255, 255, 1]; };
  const light = c => { const [r, g, b] = c.slice(0, 3).map(v => { v /= 255; return v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; }); return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
  const contrast = (a, b) => { const [x, y] = [light(a), light(b)].sort((p, q) => q - p); return (x + 0.05) / (y + 0.05); };
  const name = e => e.tagName + "." + (e.getAttribute("class") || "") + " " + JSON.stringify(e.textContent.slice(0, 30));

  for (const svg of document.querySelectorAll("figure svg")) {
    const title = svg.getAttribute("aria-label"), box = svg.getBoundingClientRect(), paper = ground(svg);
    if (box.width < 200 || box.height < 100) problems.push(title + ": " + box.width + " by " + box.height + " pixels");
    let best = 0;
    for (const e of svg.querySelectorAll("path, text")) {
      const s = getComputedStyle(e), b = e.getBoundingClientRect();
      const shown = s.fill !== "none" ? over(rgba(s.fill), paper, +s.fillOpacity) : over(rgba(s.stroke), paper, +s.strokeOpacity);
      const ratio = contrast(shown, paper);
      if (e.tagName === "text") {
        const size = parseFloat(s.fontSize) * box.width / svg.viewBox.baseVal.width;
        if (ratio < 4.5) problems.push(title + ": text " + e.textContent + " has a contrast of " + ratio.toFixed(2));
        if (size < 9) problems.push(title + ": text " + e.textContent + " is " + size.toFixed(1) + " pixels high");
        if (b.left < box.left - 2 || b.right > box.right + 2 || b.top < box.top - 2 || b.bottom > box.bottom + 2) problems.push(title + ": text " + e.textContent + " sticks out");
      } else if (b.width * b.height > 0 || b.width + b.height > 5) best = Math.max(best, ratio);
    }
    if (best < 3) problems.push(title + ": the best mark has a contrast of " + best.toFixed(2));
  }
  const said = e => { const r = document.createRange(); r.selectNodeContents(e); return r.getBoundingClientRect(); };
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let n = walker.nextNode(); n; n = walker.nextNode()) {
    const e = n.parentElement;
    if (!n.data.trim() || e.closest("svg, style") || !e.checkVisibility()) continue;
    const ratio = contrast(over(rgba(getComputedStyle(e).color), ground(e)), ground(e));
    if (ratio < 4.5) problems.push(name(e) + " has a contrast of " + ratio.toFixed(2));
    const b = e.getBoundingClientRect();
    if (b.width === 0 || b.height === 0) problems.push(name(e) + " has no size");
    if (!e.closest(".scroll, .said") && Math.max(b.right, said(n).right) > document.documentElement.clientWidth) problems.push(name(e) + " sticks out to the right");
  }
  for (const tr of document.querySelectorAll(".facts tr")) {
    const [a, b] = [said(tr.cells[0]), said(tr.cells[1])];
    if (a.right > b.left - 5 && a.top < b.bottom && b.top < a.bottom) problems.push(name(tr) + " has name and value in one place");
  }
  const root = document.scrollingElement;
  return {title: document.title, width: root.clientWidth, scroll: root.scrollWidth, figures: document.querySelectorAll("figure svg").length,
    ground: getComputedStyle(document.body).backgroundColor, problems: problems.slice(0, 20)};
})()`

// TestBrowser opens the pages of simulated runs, and of their comparison, in a browser, in both themes, on a phone, on a
// desk and on paper.
func TestBrowser(t *testing.T) {
	plain := filepath.Join(t.TempDir(), "plain")
	complete(t, "run", "--simulate", "--prompts", "../../datasets/arena-hard/arena-hard-v0.1.jsonl", "--limit", "60", "--out", plain, "--json")
	name := "<b>&'\"hostile" + strings.Repeat("long", 20) // no place to break a line
	hostile := filepath.Join(t.TempDir(), name)
	complete(t, "run", "--simulate", "--prompts", hostileFile(t), "--out", hostile, "--json",
		"--set", "simulate.world=bad", "--set", "simulate.faults=400=0.05", "--set", "prompts.max_bad_prompts=1")
	for _, out := range []string{plain, hostile} {
		want(t, nil, "report", "--prompt-price", "0.5", "--gpu-hour-price", "3", out)
	}
	want(t, nil, "compare", "--unshared", plain, hostile, plain)
	want(t, nil, "calibrate", "--simulate", "--people", "../../datasets/llmbar/llmbar-natural.json", "--out", plain)
	truth := world.Default()
	want(t, nil, "calibrate", "--simulate", "--people", scoredLabels(t, &truth, 30, 4), "--out", hostile)
	pooled, games := filepath.Join(t.TempDir(), "pooled"), filepath.Join(t.TempDir(), "arena")
	complete(t, "run", "--simulate", "--prompts", "../../datasets/arena-hard/arena-hard-v0.1.jsonl", "--limit", "40", "--out", pooled, "--json",
		"--preset", "temporal-2", "--set", "past.model="+strings.Replace(better, "+0.5", "-0.5", 1), "--set", "future.model="+better)
	want(t, nil, "report", pooled)
	want(t, nil, "compare", pooled, pooled)
	want(t, nil, "arena", "--simulate", "--a", better, "--a", "<b>&'\"hostile", "--b", base, "--judge", "judge", "--out", games,
		"--prompts", "../../datasets/arena-hard/arena-hard-v0.1.jsonl", "--limit", "40", "--category-field", "cluster")
	browser := newBrowser(t)
	for _, page := range []struct {
		name, file string
		// figures are those that a run of any duration has: the load over time comes on top.
		figures int
	}{
		{"report", filepath.Join(plain, "report.html"), 9},
		{"hostile", filepath.Join(hostile, "report.html"), 9},
		{"compare", filepath.Join(plain, "compare.html"), 6},
		{"calibration", filepath.Join(plain, "calibration.html"), 2},
		{"scale", filepath.Join(hostile, "calibration.html"), 3},
		{"pools", filepath.Join(pooled, "report.html"), 7},
		{"drift", filepath.Join(pooled, "compare.html"), 4},
		{"arena", filepath.Join(games, "arena.html"), 0},
	} {
		for _, screen := range []struct {
			name          string
			width, height int64
			media, theme  string
		}{
			{"phone-light", 360, 780, "", "light"},
			{"phone-dark", 360, 780, "", "dark"},
			{"desk-light", 1280, 900, "", "light"},
			{"desk-dark", 1280, 900, "", "dark"},
			{"paper", 720, 1000, "print", "dark"},
		} {
			t.Run(page.name+"/"+screen.name, func(t *testing.T) {
				ctx, cancel := chromedp.NewContext(browser)
				defer cancel()
				messages := chromedp.Console(ctx)
				media := emulation.SetEmulatedMediaParams{Media: screen.media, Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: screen.theme}}}
				address := url.URL{Scheme: "file", Path: page.file}
				err := chromedp.Do(ctx,
					chromedp.EmulateViewport(screen.width, screen.height),
					chromedp.Func(func(ctx context.Context, target *chromedp.Target) error {
						_, err := cdp.Call(ctx, target, emulation.SetEmulatedMedia, media)
						return err
					}),
					chromedp.Navigate(address.String()),
				)
				if err != nil {
					t.Fatal(err)
				}
				found, err := chromedp.Run(ctx, chromedp.Evaluate[seen](look))
				if err != nil {
					t.Fatal(err)
				}
				if found.Width != int(screen.width) || found.Scroll > found.Width {
					t.Errorf("the page is %d pixels wide on a screen of %d", found.Scroll, found.Width)
				}
				if found.Figures < page.figures {
					t.Errorf("%d figures, want at least %d", found.Figures, page.figures)
				}
				for _, problem := range found.Problems {
					t.Error(problem)
				}
				dark := screen.theme == "dark" && screen.media == ""
				if want := map[bool]string{false: "rgb(246, 245, 241)", true: "rgb(19, 20, 24)"}[dark]; found.Ground != want && screen.media == "" {
					t.Errorf("the ground is %s, want %s in the theme %s", found.Ground, want, screen.theme)
				}
				checkConsole(ctx, t, messages)
				if *shots != "" {
					shoot(ctx, t, page.name+"-"+screen.name+".png")
				}
			})
		}
	}
}

// TestPicture makes the README's picture: the beginning of the report of `make run`.
func TestPicture(t *testing.T) {
	if *picture == "" {
		t.Skip("no file was given: make picture gives it")
	}
	prompts, err := filepath.Abs("../../datasets/arena-hard/arena-hard-v0.1.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	t.Chdir(dir) // the page shows the name of the folder
	complete(t, "run", "--simulate", "--prompts", prompts, "--limit", "200", "--out", "out", "--json")
	want(t, nil, "report", "out")
	ctx, cancel := chromedp.NewContext(newBrowser(t))
	defer cancel()
	address := url.URL{Scheme: "file", Path: filepath.Join(dir, "out", "report.html")}
	// 1,000 by 1,270 pixels show the verdict, the checks and the begin of the scores.
	if err := chromedp.Do(ctx, chromedp.EmulateViewport(1000, 1270), chromedp.Navigate(address.String())); err != nil {
		t.Fatal(err)
	}
	png, err := chromedp.Run(ctx, chromedp.CaptureScreenshot())
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(*picture, png, 0o644); err != nil {
		t.Fatal(err)
	}
}

// checkConsole reads the page's messages up to the last one.
func checkConsole(ctx context.Context, t *testing.T, messages func(func(chromedp.ConsoleMessage, error) bool)) {
	t.Helper()
	const end = "end of the console"
	if _, err := chromedp.Run(ctx, chromedp.Evaluate[bool](`console.log("`+end+`"), true`)); err != nil {
		t.Fatal(err)
	}
	for m, err := range messages {
		if err != nil {
			t.Fatal(err)
		}
		if m.Text == end {
			return
		}
		t.Errorf("the page says %s", m)
	}
}

func shoot(ctx context.Context, t *testing.T, name string) {
	t.Helper()
	png, err := chromedp.Run(ctx, chromedp.FullScreenshot(100))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(*shots, name), png, 0o600); err != nil {
		t.Fatal(err)
	}
}
