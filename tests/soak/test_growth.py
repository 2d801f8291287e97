from tests.soak.growth import GROWTH_FDS, GROWTH_MIB, WARM_STEPS, Sample, judge_growth

FLAT = [Sample(1, 60.0, 20)] * (WARM_STEPS + 5)


def judge(*last: Sample) -> list[str]:
    return list(judge_growth("gamma", [*FLAT, *last]))


def test_flat_is_flat() -> None:
    assert judge() == judge(Sample(1, 60.0 + GROWTH_MIB, 20 + GROWTH_FDS)) == []


def test_growth_is_found() -> None:
    assert judge(Sample(1, 60.5 + GROWTH_MIB, 20)) == ["gamma's daemon grew from 60.0 to 68.5 MiB in 6 steps"]
    assert judge(Sample(1, 60.0, 21 + GROWTH_FDS)) == ["gamma's daemon had 20 descriptors with 1 guests, and has 25"]


def test_more_guests_take_more_descriptors() -> None:
    assert judge(Sample(3, 60.0, 40)) == []


def test_what_is_warming_up_is_not_judged() -> None:
    assert list(judge_growth("gamma", [Sample(1, 30.0 + step, 20 + step) for step in range(WARM_STEPS)])) == []
