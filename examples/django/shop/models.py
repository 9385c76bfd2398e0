"""The shop's own table."""

from django.db import models


class Order(models.Model):
    """An order, and whether its receipt was sent."""

    email = models.EmailField()
    receipt_sent = models.BooleanField(default=False)
