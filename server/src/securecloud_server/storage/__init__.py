"""SQLAlchemy adapters of the ports in domain/ports.py: schema, migrations, stores, transactions."""
