"""What a rule saves: residuals, cost and memory of one rule beside plain autodiff.

`measure` traces and compiles; what it finds is a `report.Report`, plain data that `render_text`,
`render_json` and `render_html` show.
"""
