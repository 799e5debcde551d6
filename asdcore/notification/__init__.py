"""Messages about incidents, by webhook, mail and MQTT."""
