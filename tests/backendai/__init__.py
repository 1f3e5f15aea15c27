"""The Backend.AI adapter against real managers, which stack/ boots."""
