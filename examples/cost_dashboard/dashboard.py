"""Questions of one's own, in SQL, over the file that `summarize.py` fills.

Run: uvicorn dashboard:app --port 8090
"""

import sqlite3

from fastapi import FastAPI

app = FastAPI(title="AI Cost Dashboard")
db = sqlite3.connect("ai_costs.db", check_same_thread=False)


@app.get("/costs/today")
def today_costs():
    rows = db.execute("""
        SELECT model, COUNT(*), SUM(cost_usd), AVG(latency_ms), SUM(cost_usd IS NULL)
        FROM requests WHERE timestamp >= date('now')
        GROUP BY model ORDER BY SUM(cost_usd) DESC
    """).fetchall()
    return {
        "date": "today",
        "total_usd": round(sum(cost for _, _, cost, _, _ in rows if cost is not None), 2),
        "unpriced": sum(without for *_, without in rows),  # calls that are in no sum
        "models": [{"model": m, "calls": n, "cost": cost, "avg_latency_ms": ms} for m, n, cost, ms, _ in rows],
    }


@app.get("/costs/feature")
def feature_costs(days: int = 7):
    rows = db.execute(
        """
        SELECT feature, COUNT(*), SUM(cost_usd), SUM(cost_usd IS NULL)
        FROM requests WHERE timestamp >= datetime('now', ?)
        GROUP BY feature ORDER BY SUM(cost_usd) DESC
        """,
        (f"-{days} days",),
    ).fetchall()
    return [{"feature": name, "calls": calls, "cost": cost, "unpriced": without} for name, calls, cost, without in rows]
