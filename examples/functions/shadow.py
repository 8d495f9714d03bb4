"""What a twin takes of a message: the sensor reads half a degree too much, and no room has had 60 degrees."""


def f(state):
    temperature = state.get("temperature")
    if temperature is None or temperature > 60.0:
        return {"energy": state.get("energy")}
    return {"temperature": temperature - 0.5, "energy": state.get("energy")}
