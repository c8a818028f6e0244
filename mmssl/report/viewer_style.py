"""Style of the page of `mmssl.report.viewer`, over that of the report."""

VIEWER_CSS = """
.viewer{padding-top:1rem}.viewer section{border-top:0;margin:0;padding:0;min-width:0}
.viewer.several{display:grid;grid-template-columns:minmax(0,1fr) 17rem;gap:1.6rem;align-items:start}
#player h2{font-size:1.1rem}#about:empty,#said:empty{display:none}
#stage{position:relative;background:#000;border-radius:8px;overflow:hidden;cursor:pointer;
width:min(100%,calc(48vh * var(--ratio,1.7778)));aspect-ratio:var(--ratio,1.7778);margin:.4rem auto .8rem}
#stage video,#stage canvas{position:absolute;inset:0;width:100%;height:100%;display:block}
#stage video{object-fit:fill}#stage canvas{pointer-events:none}
.controls{display:flex;flex-wrap:wrap;gap:.5rem .7rem;align-items:center;margin:.5rem 0}
.controls label{display:inline-flex;align-items:center;gap:.35rem;font-size:.9rem}
.controls input[type=range]{width:8.5rem;accent-color:var(--link)}
.controls output{min-width:3.2em;font-variant-numeric:tabular-nums}
button,select{font:inherit;font-size:.9rem;color:var(--ink);background:var(--soft);border:1px solid var(--muted);
border-radius:6px;padding:.3rem .75rem;cursor:pointer;min-height:2.1rem}
button:hover{border-color:var(--ink)}
button[aria-pressed=true]{background:var(--link);border-color:var(--link);color:var(--bg)}
button[hidden]{display:none}
#play{min-width:4.6rem;font-weight:650}
.readout{display:flex;flex-wrap:wrap;gap:.1rem 1.6rem;max-width:none;font-size:.92rem;font-variant-numeric:tabular-nums}
.time-chart{margin:.5rem 0}.chart-name{margin:0 0 .15rem;font-size:.85rem;color:var(--muted);max-width:none}
.chart-name b{color:var(--ink);font-weight:600}.chart-name .x{color:var(--p0);font-weight:700}
.chart-name .y{color:var(--p1);font-weight:700}
.time-chart canvas{display:block;width:100%;background:var(--soft);border-radius:4px;cursor:crosshair;touch-action:none}
#axis{display:block;width:100%;height:18px}
.links{display:flex;flex-wrap:wrap;gap:.2rem 1.4rem;padding:0;list-style:none;font-size:.92rem}
#clips{position:sticky;top:1rem}#clips h2{font-size:1.1rem}
#clips ol{list-style:none;margin:.4rem 0;padding:2px;max-height:calc(100vh - 6rem);overflow-y:auto}
#clips button{display:block;width:100%;text-align:left;border-color:transparent;background:none;padding:.4rem .6rem}
#clips button:hover{background:var(--soft)}
#clips button[aria-current]{background:var(--soft);border-color:var(--link)}
#clips button>*{display:block;width:fit-content}#clips bdi{overflow-wrap:anywhere}
dialog{color:var(--ink);background:var(--bg);border:1px solid var(--rule);border-radius:10px;padding:1.2rem 1.6rem;
max-width:min(34rem,94vw)}
dialog::backdrop{background:rgba(0,0,0,.55)}
dialog table{width:100%}kbd{font-family:inherit;font-weight:600;white-space:nowrap}
@media (max-width:820px){.viewer.several{grid-template-columns:minmax(0,1fr)}#clips{position:static}
#clips ol{max-height:16rem}}
"""
