"""The agent's side of the wire: HTTPS to one of several servers, enrolment and the exchange."""
