"""The style sheet of the data check's page."""

STYLE = """
:root { color-scheme: light dark; --paper: #fbfbf9; --card: #fff; --ink: #1d2126; --soft: #5d6670; --line: #d9dcdf;
  --error: #b3261e; --warning: #8a5a00; --note: #1f5f99; --sound: #1b6e3c; }
@media (prefers-color-scheme: dark) { :root { --paper: #14171a; --card: #1d2125; --ink: #e8eaec; --soft: #9aa4ae; --line: #353b41;
  --error: #ff8a80; --warning: #f0b95a; --note: #83bdf2; --sound: #7fd6a0; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1120px; padding: 2rem 1.25rem 3rem; background: var(--paper); color: var(--ink);
  font: 15px/1.5 system-ui, sans-serif; }
h1 { margin: 0; font-size: 2rem; line-height: 1.2; overflow-wrap: anywhere; } h2 { margin: 2.5rem 0 .5rem; font-size: 1.25rem; }
h3 { margin: 0; font-size: 1rem; color: var(--soft); font-weight: 600; } p { margin: .25rem 0; } section > p { color: var(--soft); }
.path, footer { color: var(--soft); font-size: .85rem; overflow-wrap: anywhere; } footer { margin-top: 3rem; }
.verdict { font-weight: 600; } .verdict.error { color: var(--error); } .verdict.sound { color: var(--sound); }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(230px, 1fr)); gap: 1rem; margin-top: 1.5rem; }
.card, figure { background: var(--card); border: 1px solid var(--line); border-radius: 10px; }
.card { padding: 1rem 1.25rem; } .big { font-size: 1.9rem; font-weight: 650; } .big small { font-size: .9rem; font-weight: 400; }
.sizes { list-style: none; margin: .5rem 0 0; padding: 0; color: var(--soft); font-variant-numeric: tabular-nums; }
.sizes span { float: right; }
.scroll { overflow-x: auto; }
table { width: 100%; border-collapse: collapse; } th { text-align: left; font-weight: 600; color: var(--soft); font-size: .85rem; }
th, td { padding: .6rem .75rem .6rem 0; border-bottom: 1px solid var(--line); vertical-align: top; }
td { overflow-wrap: anywhere; min-width: 5rem; } td:nth-child(n+2) { width: 31%; min-width: 13rem; }
.expected { color: var(--soft); } .fix { font: .82rem/1.5 ui-monospace, monospace; }
.badge { border: 1px solid; border-radius: 99px; padding: .05rem .55rem; font-size: .8rem; font-weight: 600; white-space: nowrap; }
.badge.error { color: var(--error); } .badge.warning { color: var(--warning); } .badge.note { color: var(--note); }
details { font-size: .82rem; color: var(--soft); } details ul { margin: .25rem 0; padding-left: 1.1rem; }
svg { display: block; width: 100%; min-width: 640px; height: auto; }
svg text { fill: var(--ink); font: 12.5px system-ui, sans-serif; }
svg .tick, svg .count { fill: var(--soft); font-size: 11px; font-variant-numeric: tabular-nums; }
svg .absent { fill: var(--warning); font-size: 9.5px; } svg .grid { stroke: var(--line); }
svg .bar { stroke: var(--soft); stroke-width: .6; }
.sheet { display: grid; grid-template-columns: repeat(auto-fill, minmax(240px, 1fr)); gap: 1rem;
  margin-top: 1rem; align-items: start; }
figure { margin: 0; overflow: hidden; } figure img, .none { display: block; width: 100%; }
.none { height: 150px; background: var(--line); }
figcaption { padding: .5rem .75rem .7rem; font-size: .82rem; } .file { font-weight: 600; overflow-wrap: anywhere; }
.split, .remark { color: var(--soft); } .chips { display: flex; flex-wrap: wrap; gap: .15rem .6rem; margin-top: .3rem; }
.chip i { display: inline-block; width: .7em; height: .7em; margin-right: .3em; border: 1px solid var(--soft); border-radius: 2px; }
"""
