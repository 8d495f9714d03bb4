"""What the energy of a device costs, by the hour of its measurement."""


def f(state):
    """Gives the cost; by day a kilowatt hour costs more."""
    # The device's time is None where it is beyond what can be written.
    hour = int((state.physical_at or state.arrived_at)[11:13])
    return {"cost": round(state["energy"] * (0.31 if 7 <= hour < 21 else 0.22), 3)}
