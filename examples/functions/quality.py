"""How good the place of a device is: from 1 at 21 degrees Celsius down to 0 at 6 degrees from it."""


def f(state):
    """Gives a number, a word of advice, and an event where it is poor."""
    off = state["temperature"] - 21.0
    quality = round(max(0.0, 1.0 - abs(off) / 6.0), 3)
    answer = {"quality": quality, "advice": "none"}
    if quality < 0.5:
        answer["advice"] = "heat" if off < 0 else "cool"
    if quality < 0.2:
        # An event; left out, or None, there is none.
        answer["poor"] = {"twin": state.twin, "off": round(off, 2)}
    return answer
