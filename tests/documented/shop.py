"""The package `shop` of which the pages speak: that of `carafe init`, with the models that other pages add to it."""

from carafe.cli.first_application import FILES as FIRST

FILES = {
    **{name: text for name, text in FIRST.items() if name.startswith("shop/")},
    "shop/jobs.py": FIRST["shop/jobs.py"]
    + '''

class SendReceipt(Job, kind="shop.send_receipt"):
    """Send the receipt of an order."""

    order: int
''',
    "shop/model.py": '''"""The tables, with SQLAlchemy."""

from sqlalchemy.orm import DeclarativeBase


class Base(DeclarativeBase):
    pass
''',
    "shop/models.py": '''"""The tables, with Django."""

from django.db import models


class Order(models.Model):
    email = models.EmailField()
    receipt_sent = models.BooleanField(default=False)
''',
    "shop/settings.py": '''"""The settings of the shop."""

from carafe import Settings


class ShopSettings(Settings):
    stripe_key: str = ""
''',
}
"""The text of each file, by its path."""
