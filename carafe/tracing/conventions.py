"""The names from OpenTelemetry's semantic conventions that our spans use, and the names that we add.

They are copied and not imported, because the conventions for messaging are not stable yet and OpenTelemetry asks libraries
to keep their own copy. A test compares them with the installed version.
https://opentelemetry.io/docs/specs/semconv/messaging/
"""

SCHEMA_URL = "https://opentelemetry.io/schemas/1.44.0"

SYSTEM = "messaging.system"
OPERATION_NAME = "messaging.operation.name"
OPERATION_TYPE = "messaging.operation.type"
DESTINATION = "messaging.destination.name"
MESSAGE_ID = "messaging.message.id"
BATCH_COUNT = "messaging.batch.message_count"
CLIENT_ID = "messaging.client.id"
ERROR_TYPE = "error.type"
HTTP_METHOD = "http.request.method"
HTTP_STATUS = "http.response.status_code"
URL = "url.full"
SERVER_ADDRESS = "server.address"
SERVER_PORT = "server.port"
EXCEPTION = "exception"
EXCEPTION_TYPE = "exception.type"
EXCEPTION_MESSAGE = "exception.message"
EXCEPTION_STACKTRACE = "exception.stacktrace"
SERVICE_NAME = "service.name"
SERVICE_VERSION = "service.version"
SERVICE_INSTANCE = "service.instance.id"
HOST_NAME = "host.name"

SEND, PROCESS = "send", "process"
"""The operation types that our spans have."""

# Ours.
CARAFE = "carafe"
KIND = "carafe.job.kind"
ATTEMPT = "carafe.job.attempt"
MAX_ATTEMPTS = "carafe.job.max_attempts"
OUTCOME = "carafe.job.outcome"
CAUSE = "carafe.job.cause"
EXISTING = "carafe.job.existing"
LINK = "carafe.link"
PREVIOUS_ATTEMPT, ENQUEUED_BY = "previous attempt", "enqueued by"
