"""A shop with Flask and Flask-SQLAlchemy: an order and the job that sends its receipt are stored in one transaction."""

from typing import Any

from flask import Flask, request

from carafe import SyncClient, load_settings
from shop.database import Order, db
from shop.jobs import SendReceipt

settings = load_settings()
client = SyncClient.from_settings(settings)
"""One client for the process. It connects at first use, survives a fork and need not be closed."""

app = Flask(__name__)
database_url = settings.database_url.get_secret_value()
app.config["SQLALCHEMY_DATABASE_URI"] = database_url.replace("postgresql://", "postgresql+psycopg://")
db.init_app(app)


@app.post("/orders")
def place_order() -> tuple[dict[str, Any], int]:
    """Store an order and its job in one transaction. Workers learn of the job after the commit."""
    order = Order(email=request.form["email"])
    db.session.add(order)
    db.session.flush()
    job = client.enqueue(SendReceipt(order=order.id), session=db.session)
    db.session.commit()
    return {"order": order.id, "job": str(job.id)}, 202


@app.get("/orders/<int:number>")
def show_order(number: int) -> dict[str, Any]:
    """Say whether the receipt of an order was sent."""
    order = db.get_or_404(Order, number)
    return {"order": order.id, "receipt_sent": order.receipt_sent}


@app.cli.command("create-tables")
def create_tables() -> None:
    """Create the shop's own tables. A real shop would have migrations."""
    db.create_all()
