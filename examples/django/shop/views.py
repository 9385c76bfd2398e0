"""The shop's pages."""

from django.db import transaction
from django.http import HttpRequest, JsonResponse
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_GET, require_POST

from carafe.django import enqueue
from shop.jobs import SendReceipt
from shop.models import Order


@csrf_exempt
@require_POST
def place_order(request: HttpRequest) -> JsonResponse:
    """Store an order and its job in one transaction. Workers learn of the job after the commit."""
    with transaction.atomic():
        order = Order.objects.create(email=request.POST["email"])
        job = enqueue(SendReceipt(order=order.pk))
    return JsonResponse({"order": order.pk, "job": str(job.id)}, status=202)


@require_GET
def show_order(request: HttpRequest, pk: int) -> JsonResponse:
    """Say whether the receipt of an order was sent."""
    order = Order.objects.get(pk=pk)
    return JsonResponse({"order": order.pk, "receipt_sent": order.receipt_sent})
