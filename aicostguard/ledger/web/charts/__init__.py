"""Charts: from the rows of a query to one declarative drawing (Vega-Lite), for a browser, a PNG and an SVG alike.

Each function takes an answer of the ledger and gives a `Chart`; none asks the ledger anything. Money is summed up as
integers; what is drawn is a float, and what is read (labels, tooltips) is the exact text beside it. What a chart leaves
out (series beyond a bounded number, groups that a limit cut off, calls without a price) it says.
"""
