"""The settings of the briefing service, beside Carafe's own. SETTINGS_CLASS names the class."""

from pydantic import Field, SecretStr, field_validator

from carafe import SecretUrl, Settings


class BriefingSettings(Settings):
    """Where briefings come from."""

    briefing_webhook_url: SecretUrl | None = Field(
        None, description="Webhook that writes briefings. Unset in development: the sample one of the web process."
    )
    briefing_webhook_secret: SecretStr | None = Field(None, description="Secret sent to the webhook in a header.")

    @field_validator("briefing_webhook_url")
    @classmethod
    def _is_http(cls, url: SecretUrl | None) -> SecretUrl | None:
        if url is not None and url.get_secret_value().partition("://")[0] not in ("http", "https"):
            raise ValueError("must be a URL such as https://example.org/webhook")
        return url
