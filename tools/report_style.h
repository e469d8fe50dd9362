// SPDX-License-Identifier: Apache-2.0
// The style sheet of the HTML report: light and dark by the reader's setting, colours by role.

#ifndef QCNN_TOOLS_REPORT_STYLE_H
#define QCNN_TOOLS_REPORT_STYLE_H

static const char report_style[] =
    ":root{color-scheme:light dark;--page:#f4f4f1;--card:#fdfdfc;--text:#14140f;--soft:#5a5953;--line:#dddcd6;"
    "--before:#c5c4bc;--conv:#2a78d6;--fc:#eb6834;--rest:#8b8a83;--lookup:#1baf7a;--error:#b0409e}\n"
    "@media (prefers-color-scheme:dark){:root{--page:#121211;--card:#1c1c1a;--text:#f6f5f0;--soft:#b5b4aa;--line:#34332f;"
    "--before:#55544e;--conv:#4a93ea;--fc:#e8703f;--rest:#85847c;--lookup:#22a878;--error:#cf63bd}}\n"
    "*{box-sizing:border-box}\n"
    "body{margin:0;background:var(--page);color:var(--text);font:15px/1.5 system-ui,-apple-system,'Segoe UI',Roboto,'DejaVu "
    "Sans',sans-serif}\n"
    "main{max-width:940px;margin:0 auto;padding:32px 20px 48px}\n"
    "h1{font-size:26px;line-height:1.25;margin:0 0 4px;overflow-wrap:anywhere}\n"
    "h2{font-size:17px;margin:0 0 2px}\n"
    "p{margin:0 0 14px;color:var(--soft);overflow-wrap:anywhere}\n"
    "p.verdict{color:var(--text);font-weight:600;margin-bottom:6px}\n"
    "section{background:var(--card);border:1px solid var(--line);border-radius:10px;padding:18px 20px;margin-top:16px}\n"
    ".tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(190px,1fr));gap:12px;margin-top:20px}\n"
    ".tile{background:var(--card);border:1px solid var(--line);border-radius:10px;padding:14px 16px}\n"
    ".tile b{display:block;font-size:28px;line-height:1.2;font-weight:650}\n"
    ".tile span{color:var(--soft);font-size:13px}\n"
    ".wide{overflow-x:auto}\n"
    "svg{display:block;width:100%;min-width:640px;height:auto}\n"
    "text{font-size:12.5px;fill:var(--text)}\n"
    ".soft{fill:var(--soft)} .end{text-anchor:end} .middle{text-anchor:middle} .bold{font-weight:650}\n"
    ".on{fill:#fff;font-weight:600}\n"
    ".before{fill:var(--before)} .conv{fill:var(--conv)} .fc{fill:var(--fc)} .rest{fill:var(--rest)}\n"
    ".lookup{fill:var(--lookup)} .error{fill:var(--error)} .rule{stroke:var(--line)}\n"
    ".zoom{fill:var(--line);opacity:.45}\n"
    ".legend{display:flex;flex-wrap:wrap;gap:4px 18px;font-size:13px;color:var(--soft);margin:0 0 8px}\n"
    ".legend i{display:inline-block;width:11px;height:11px;border-radius:3px;margin-right:6px}\n"
    "table{border-collapse:collapse;width:100%;font-size:13px;font-variant-numeric:tabular-nums}\n"
    "th{text-align:left;color:var(--soft);font-weight:600}\n"
    "th,td{padding:6px 10px 6px 0;border-bottom:1px solid var(--line);white-space:nowrap;vertical-align:top}\n"
    "td:first-child{min-width:96px;max-width:220px;white-space:normal;overflow-wrap:anywhere}\n"
    "th.n,td.n{text-align:right}\n"
    "tr.total td{font-weight:650;border-bottom:0}\n"
    "footer{margin-top:18px;font-size:13px;color:var(--soft);overflow-wrap:anywhere}\n";

#endif
