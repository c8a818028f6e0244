"""Style sheet and script of the page; both go inline, and the page may load nothing else."""

CSS = """
:root{color-scheme:light dark;--bg:#fff;--soft:#f5f6f8;--ink:#1a1d21;--muted:#5a626c;--rule:#d9dde2;--grid:#e8eaee;
--good:#00664a;--good-bg:#e3f4ee;--bad:#a33c00;--bad-bg:#fdeee4;--base:#a9b0b9;--link:#0060a0;
--p0:#0072b2;--p1:#d55e00;--p2:#009e73;--p3:#b3588f;--p4:#b77d00;--p5:#3a95cc;--p6:#6b5b95;--p7:#444b54}
@media (prefers-color-scheme:dark){:root{--bg:#15181c;--soft:#1e2227;--ink:#e8eaed;--muted:#a2abb6;--rule:#363c44;
--grid:#2a2f36;--good:#5fd3ac;--good-bg:#16322a;--bad:#ffa46b;--bad-bg:#3a2417;--base:#6b747f;--link:#7cc0f4;
--p0:#4aa8e0;--p1:#f28b45;--p2:#35c79b;--p3:#dd94c0;--p4:#e6b13a;--p5:#8accf3;--p6:#b0a2da;--p7:#c3cad2}}
*{box-sizing:border-box}
html{scroll-behavior:smooth;scroll-padding-top:3.5rem}
@media (prefers-reduced-motion:reduce){html{scroll-behavior:auto}}
body{margin:0;background:var(--bg);color:var(--ink);font:16px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,
"Helvetica Neue",Arial,"DejaVu Sans",sans-serif;overflow-wrap:anywhere}
main,header,footer{max-width:1120px;margin:0 auto;padding:0 1.25rem}
header{padding-top:2.25rem}
h1{font-size:clamp(1.6rem,4vw,2.3rem);line-height:1.15;margin:0 0 .4rem;letter-spacing:-.015em}
h2{font-size:1.4rem;line-height:1.25;margin:0 0 .4rem;letter-spacing:-.01em}
h3{font-size:1.02rem;margin:1.8rem 0 .4rem}
p{margin:.3rem 0 .8rem;max-width:72ch}
.lead{color:var(--muted);font-size:1.05rem}
.note,.missing{color:var(--muted);font-size:.92rem}
.missing{border-left:3px solid var(--rule);padding:.1rem 0 .1rem .8rem}
section{padding:2.2rem 0 .6rem;border-top:1px solid var(--rule);margin-top:1.6rem}
main>section:first-child{border-top:0;margin-top:0}
a{color:var(--link)}
:focus-visible{outline:2px solid var(--link);outline-offset:2px}
.skip{position:absolute;left:-999px}.skip:focus{left:1rem;top:.5rem;background:var(--bg);padding:.4rem .8rem;z-index:3}
nav{position:sticky;top:0;z-index:2;background:var(--bg);border-bottom:1px solid var(--rule);margin-top:1.6rem}
nav ul{max-width:1120px;margin:0 auto;padding:.1rem 1.25rem;list-style:none;display:flex;gap:1.3rem;overflow-x:auto}
nav a{display:block;padding:.6rem 0;white-space:nowrap;font-size:.92rem;text-decoration:none}
nav a:hover{text-decoration:underline}
.verdict{display:inline-block;margin:.5rem 0 1.1rem;padding:.3rem .8rem;border-radius:6px;font-weight:650}
.good{color:var(--good);background:var(--good-bg)}.bad{color:var(--bad);background:var(--bad-bg)}
.cards{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,310px),1fr));gap:.9rem;margin:0;padding:0;list-style:none}
.card{background:var(--soft);border-radius:8px;padding:.85rem 1rem 1rem;border-top:3px solid var(--base)}
.card.holds{border-top-color:var(--p2)}.card.fails{border-top-color:var(--p1)}
.card .top{display:flex;justify-content:space-between;gap:.6rem;align-items:baseline;
font-size:.92rem;color:var(--muted)}
.card .value{font-size:1.9rem;font-weight:680;line-height:1.25;letter-spacing:-.02em;font-variant-numeric:tabular-nums}
.card p{margin:.15rem 0 0;font-size:.88rem;line-height:1.42;color:var(--muted)}
.mark{font-size:.8rem;font-weight:650;padding:.05rem .5rem;border-radius:999px;white-space:nowrap}
.scroll{overflow-x:auto;margin:.6rem 0 1.1rem}
table{border-collapse:collapse;font-size:.93rem;font-variant-numeric:tabular-nums;width:max-content;max-width:none}
caption{text-align:left;max-width:calc(100vw - 2.5rem);color:var(--muted);font-size:.88rem;padding-bottom:.4rem}
th,td{padding:.38rem 1.1rem .38rem 0;text-align:left;vertical-align:baseline;border-bottom:1px solid var(--grid)}
thead th{border-bottom:1.5px solid var(--rule);font-weight:600;color:var(--muted);font-size:.86rem}
tbody th{font-weight:500}
td.n,th.n{text-align:right;white-space:nowrap}
tr.own th,tr.own td{font-weight:680;background:var(--soft)}
tr.own th:first-child{padding-left:.5rem}
th small,td small{color:var(--muted);font-weight:400}
.charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,440px),1fr));gap:1.4rem 2rem;margin:.8rem 0}
.charts>*{min-width:0}
.pair{display:flex;flex-wrap:wrap;gap:1rem 2.6rem;align-items:flex-start;margin:.6rem 0}
.pair>*{min-width:0;max-width:100%}.pair>.scroll{flex:0 1 auto;margin:0}.pair>svg{flex:1 1 340px}
svg.chart{display:block;width:100%;height:auto;overflow:visible;font-size:12px}
svg text{fill:var(--ink)}
.chart-title{font-weight:650;font-size:13.5px}
svg .tick,svg .axis-name,svg .muted{fill:var(--muted)}svg .tick,svg .axis-name{font-size:11.5px}
.grid{stroke:var(--grid);stroke-width:1}.axis{stroke:var(--base);stroke-width:1}
.level{stroke:var(--muted);stroke-width:1.3;stroke-dasharray:5 4}
.c0{--c:var(--p0)}.c1{--c:var(--p1)}.c2{--c:var(--p2)}.c3{--c:var(--p3)}.c4{--c:var(--p4)}.c5{--c:var(--p5)}
.c6{--c:var(--p6)}.c7{--c:var(--p7)}
.line{fill:none;stroke:var(--c);stroke-width:2;stroke-linejoin:round}
.line.faint{stroke-width:1;opacity:.33}.line.dashed{stroke-dasharray:2 3}
.dot{fill:var(--c)}svg .end{font-weight:600;fill:var(--c,var(--ink))}svg .end.muted{font-weight:400;fill:var(--muted)}
.bar{fill:var(--c)}.bar.base{fill:var(--base);opacity:.75}.error{stroke:var(--ink);stroke-width:1.4}
.seed{fill:var(--bg);stroke:var(--ink);stroke-width:1.1}.target{stroke:var(--ink);stroke-width:2}
svg .row-name{font-size:12px}svg .row-name,svg .end{paint-order:stroke;stroke:var(--bg);stroke-width:3px}
.cell{fill:var(--p0)}svg .cell-text{font-size:11px}svg .cell-text.dark{fill:var(--bg);font-weight:600}
.gallery{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(46%,210px),1fr));
gap:1.1rem .9rem;margin:.9rem 0}
figure{margin:0;min-width:0}
figure video,figure img{display:block;width:100%;border-radius:6px;background:var(--soft)}
.gallery video{background:#15181c;object-fit:contain;object-position:top}
.gallery figure{border-top:4px solid var(--base);padding-top:.4rem}
.gallery figure.hit{border-top-color:var(--p2)}.gallery figure.miss{border-top-color:var(--p1)}
figcaption{font-size:.85rem;line-height:1.4;padding-top:.35rem}
figcaption .key{color:var(--muted);
font-size:.78rem;font-family:ui-monospace,SFMono-Regular,Menlo,"DejaVu Sans Mono",monospace}
.key,bdi{unicode-bidi:isolate}
.row{display:grid;grid-template-columns:repeat(6,minmax(0,1fr));
gap:.6rem;padding:.9rem 0;border-bottom:1px solid var(--grid)}
@media (max-width:900px){.row{grid-template-columns:repeat(2,minmax(0,1fr))}}
.row figure{border-top:4px solid var(--base);padding-top:.3rem}
.row .right{border-top-color:var(--p2)}.row .wrong{border-top-color:var(--p1)}.row .query{border-top-color:var(--ink)}
.row img{border-radius:3px}
.said{display:grid;grid-template-columns:minmax(0,260px) 1fr;
gap:.4rem 1.2rem;padding:.9rem 0;border-bottom:1px solid var(--grid)}
@media (max-width:640px){.said{grid-template-columns:1fr}}
.said ol{margin:0;padding-left:1.4rem}.said li.true{font-weight:650}
.left-out{background:var(--soft);color:var(--muted);font-size:.85rem;padding:1.2rem .6rem;
text-align:center;border-radius:6px}
details{margin:.8rem 0}summary{cursor:pointer;font-weight:600}
pre{background:var(--soft);padding:1rem;border-radius:8px;overflow-x:auto;font-size:.82rem;line-height:1.45;
font-family:ui-monospace,SFMono-Regular,Menlo,"DejaVu Sans Mono",monospace;overflow-wrap:normal}
.pairs{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,400px),1fr));gap:0 2.4rem}
footer{color:var(--muted);font-size:.85rem;padding-top:2rem;padding-bottom:3rem}
@media print{nav,.skip{display:none}section{break-inside:avoid}}
"""

SCRIPT = """
"use strict";
const videos=[...document.querySelectorAll("video")];
for(const video of videos)video.addEventListener("play",()=>{for(const other of videos)if(other!==video)other.pause()});
"""
