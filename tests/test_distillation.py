"""Distillation: the weighted-regression identity, the cache, what is refused, and what the report says."""

import numpy as np
import pytest
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.neighbors import KNeighborsRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import PolynomialFeatures, StandardScaler

import scrimp
from scrimp.distillation import mixed_targets, soft_targets, trust_in_teacher
from scrimp.linear_model import Ridge as SmallRidge


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def rows_and_labels(rng, n=400, noise=0.5):
    X = rng.normal(size=(n, 3))
    return X, X @ [1.0, -2.0, 0.5] + noise * rng.normal(size=n)


def direct_loss(predicted, y, t, alpha, phi):
    return ((1 - alpha) * (predicted - y) ** 2 + alpha * phi * (predicted - t) ** 2).sum()


@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
def test_one_weighted_regression_minimises_the_mixed_loss(rng, alpha):
    X, y = rows_and_labels(rng)
    t = y + rng.normal(size=len(y))
    phi = trust_in_teacher((t - y) ** 2)
    target, weight = mixed_targets(t, y, alpha, phi)
    model = LinearRegression().fit(X, target, sample_weight=weight)
    best = direct_loss(model.predict(X), y, t, alpha, phi)
    for _ in range(20):
        nudged = X @ (model.coef_ + 1e-3 * rng.normal(size=3)) + model.intercept_
        assert direct_loss(nudged, y, t, alpha, phi) > best


def test_alpha_zero_is_plain_training_and_alpha_one_ignores_the_labels(rng):
    X, y = rows_and_labels(rng)

    def teacher(rows):
        return rows @ [5.0, 5.0, 5.0]

    plain = scrimp.distill(teacher, LinearRegression(), X, y, alpha=0.0).student
    assert np.allclose(plain.coef_, LinearRegression().fit(X, y).coef_)
    blind = scrimp.distill(teacher, LinearRegression(), X, y, alpha=1.0).student
    assert np.allclose(blind.coef_, 5.0)


def test_equal_errors_are_trusted_fully():
    assert trust_in_teacher(np.full(5, 3.0)).tolist() == [1.0] * 5
    assert trust_in_teacher([0.0, 9.0], eta=3.0).tolist() == [1.0, 0.0]


def test_untrusted_rows_do_not_teach(rng):
    X, y = rows_and_labels(rng, noise=0.0)
    broken = np.arange(len(y)) % 2 == 0

    class Liar:
        def predict(self, rows):
            return np.where(broken, 1e6, y)[: len(rows)]

    student = scrimp.distill(Liar(), LinearRegression(), X, y, teacher_trust=1.0).student
    assert np.allclose(student.coef_, [1.0, -2.0, 0.5])


def test_a_pipeline_gets_its_weights_through_the_last_step(rng):
    X, y = rows_and_labels(rng)
    student = make_pipeline(StandardScaler(), Ridge(alpha=1e-9))
    r = scrimp.distill(lambda rows: rows[:, 0], student, X, y, alpha=0.5, teacher_trust="auto")
    phi = trust_in_teacher((X[:, 0] - y) ** 2)
    target, weight = mixed_targets(X[:, 0], y, 0.5, phi)
    expected = LinearRegression().fit(X, target, sample_weight=weight)
    assert np.allclose(r.student.predict(X), expected.predict(X))


def test_the_student_given_is_left_untouched(rng):
    X, _ = rows_and_labels(rng)
    student = LinearRegression()
    scrimp.distill(lambda rows: rows[:, 0], student, X)
    assert not hasattr(student, "coef_")


def test_a_student_that_cannot_weigh_rows_is_refused_only_when_rows_weigh_differently(rng):
    X, y = rows_and_labels(rng)
    scrimp.distill(lambda rows: rows[:, 0], KNeighborsRegressor(), X, y, alpha=0.5)
    with pytest.raises(TypeError, match="takes no sample_weight"):
        scrimp.distill(lambda rows: rows[:, 0], KNeighborsRegressor(), X, y, alpha=0.5, teacher_trust="auto")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"alpha": 0.5}, "alpha must be 1 without labels"),
        ({"alpha": 1.5}, "between 0 and 1"),
        ({"temperature": 2.0}, "for numbers it must be 1"),
        ({"teacher_trust": "auto"}, "needs y"),
        ({"teacher_trust": np.full(3, 2.0)}, "one value a row"),
        ({"teacher_trust": np.full(400, 2.0)}, "between 0 and 1"),
        ({"teacher_trust": np.zeros(400)}, "no row with any weight"),
        ({"y": np.zeros(3)}, "X has 400 rows and y 3"),
        ({"y_test": np.zeros(3)}, "y_test needs X_test"),
        ({"y": np.zeros(400), "teacher_trust": "maybe"}, "'maybe'"),
        ({"cache": "somewhere"}, "cache_key"),
    ],
)
def test_contradictions_are_refused(rng, arguments, words):
    X, _ = rows_and_labels(rng)
    with pytest.raises(ValueError, match=words):
        scrimp.distill(lambda rows: rows[:, 0], LinearRegression(), X, **arguments)


@pytest.mark.parametrize(
    ("teacher", "words"),
    [
        (lambda rows: rows[:-1, 0], "400 rows must give 400 targets"),
        (lambda rows: np.full(len(rows), np.nan), "not finite in rows 0 to 400"),
    ],
)
def test_a_teacher_that_answers_nonsense_is_refused(rng, teacher, words):
    X, _ = rows_and_labels(rng)
    with pytest.raises(ValueError, match=words):
        scrimp.distill(teacher, LinearRegression(), X)


class Counting:
    """A teacher that counts how many rows it was asked about, and how many at once."""

    def __init__(self):
        self.asked = []

    def get_params(self, deep=True):
        return {}

    def __getstate__(self):
        return {"slope": 2.0}

    def predict(self, X):
        self.asked.append(len(X))
        return X[:, 0] * 2


def test_the_teacher_is_asked_in_chunks_and_the_answers_do_not_depend_on_them(rng):
    X = rng.normal(size=(10, 2))
    teacher = Counting()
    chunked = soft_targets(teacher, X, chunk_rows=3).values
    assert teacher.asked == [3, 3, 3, 1]
    assert (chunked == soft_targets(teacher, X).values).all()


def test_cached_targets_spare_the_teacher_until_a_row_changes(rng, tmp_path):
    X = rng.normal(size=(50, 2))
    teacher = Counting()
    first = soft_targets(teacher, X, cache=tmp_path)
    again = soft_targets(teacher, X, cache=tmp_path)
    assert (first.from_cache, again.from_cache, teacher.asked) == (False, True, [50])
    assert (again.values == first.values).all()
    X[7, 0] += 1e-12
    assert not soft_targets(teacher, X, cache=tmp_path).from_cache


def test_another_teacher_another_type_another_shape_are_other_files(rng, tmp_path):
    X = rng.normal(size=(20, 2))
    keys = {
        soft_targets(model, rows, cache=tmp_path).path
        for model in (LinearRegression().fit(X, X[:, 0]), LinearRegression().fit(X, X[:, 1]))
        for rows in (X, X.astype(np.float32), X[:10])
    }
    assert len(keys) == 6


@pytest.mark.parametrize("damage", ["cut", "junk", "pickle", "length"])
def test_a_damaged_cache_file_is_made_again_and_never_unpickled(rng, tmp_path, damage):
    X = rng.normal(size=(50, 2))
    teacher = Counting()
    good = soft_targets(teacher, X, cache=tmp_path)
    expected = np.array(good.values)
    data = good.path.read_bytes()
    if damage == "cut":
        good.path.write_bytes(data[:-8])
    elif damage == "junk":
        good.path.write_bytes(b"junk")
    elif damage == "pickle":
        np.save(good.path, np.array([print], dtype=object), allow_pickle=True)
    else:
        np.save(good.path, np.zeros(3))
    repaired = soft_targets(teacher, X, cache=tmp_path)
    assert not repaired.from_cache
    assert (repaired.values == expected).all()


def test_a_failing_teacher_leaves_nothing_in_the_cache(rng, tmp_path):
    def teacher(rows):
        raise RuntimeError("tired")

    with pytest.raises(RuntimeError, match="tired"):
        soft_targets(teacher, np.zeros((3, 1)), cache=tmp_path, cache_key="v1")
    assert list(tmp_path.iterdir()) == []


def test_a_teacher_that_fails_half_way_leaves_nothing_in_the_cache(tmp_path):
    def teacher(rows):
        return rows[:, 0] if rows[0, 0] == 0 else np.zeros((len(rows), 2))

    X = np.arange(6.0).reshape(6, 1)
    with pytest.raises(ValueError, match=r"from row 3 on \(2,\), before \(\)"):
        soft_targets(teacher, X, cache=tmp_path, cache_key="v1", chunk_rows=3)
    assert list(tmp_path.iterdir()) == []


def test_a_cached_file_holds_what_the_teacher_said_chunk_by_chunk(rng, tmp_path):
    X = rng.normal(size=(7, 2))
    cached = soft_targets(lambda rows: rows, X, cache=tmp_path, cache_key="v1", chunk_rows=3)
    assert (np.load(cached.path) == X).all()


def test_with_few_labels_teaching_on_all_rows_helps_and_the_report_says_so(rng):
    X = rng.uniform(-2, 2, size=(3000, 2))
    y = X[:, 0] * X[:, 1] + 0.1 * rng.normal(size=3000)
    teacher = HistGradientBoostingRegressor(max_iter=60, random_state=0).fit(X[:2000], y[:2000])
    student = make_pipeline(PolynomialFeatures(2), Ridge())
    r = scrimp.distill(teacher, student, X[:2000], X_test=X[2000:], y_test=y[2000:])
    assert r.report.student.score > 0.95
    assert r.report.fidelity > 0.95
    assert "not compared" in r.report.verdict
    assert r.report.student.nbytes < r.report.teacher.nbytes
    assert r.report.student.bill.usage.wall_s > 0


def test_a_bad_teacher_is_called_no_help(rng):
    X, y = rows_and_labels(rng)
    r = scrimp.distill(lambda rows: 0 * rows[:, 0], LinearRegression(), X, y, X_test=X, y_test=y)
    assert r.report.verdict.startswith("distillation does not help here: r2 ")
    assert r.report.hard.score > 0.9 > r.report.student.score


def test_a_teacher_of_the_labels_themselves_makes_no_difference(rng):
    X, y = rows_and_labels(rng)
    r = scrimp.distill(LinearRegression().fit(X, y), LinearRegression(), X, y, X_test=X, y_test=y)
    assert "no clear difference" in r.report.verdict
    assert r.report.fidelity == pytest.approx(1.0)


def test_classes_are_learned_from_probabilities(rng):
    X = rng.normal(size=(600, 2))
    names = np.array(["no", "yes"])[(X[:, 0] > 0).astype(int)]
    teacher = LogisticRegression().fit(X, names)
    r = scrimp.distill(teacher, LogisticRegression(C=1e6), X, X_test=X, y_test=names)
    assert r.report.metric == "accuracy"
    assert r.report.fidelity > 0.99
    assert np.allclose(r.student.predict_proba(X), teacher.predict_proba(X), atol=1e-3)


def test_a_student_that_reads_probabilities_gets_them_and_no_repeated_rows(rng):
    class Reader(LogisticRegression):
        def fit_soft(self, X, probabilities, classes):
            self.got_ = X.shape, probabilities, list(classes)
            return self.fit(X, classes[probabilities.argmax(axis=1)])

    X = rng.normal(size=(200, 2))
    y = np.where(X[:, 0] > 0, "yes", "no")
    teacher = LogisticRegression().fit(X, y)
    shape, probabilities, classes = scrimp.distill(teacher, Reader(), X, y, alpha=0.25).student.got_
    assert (shape, classes) == ((200, 2), ["no", "yes"])
    assert np.allclose(probabilities[:, 1], 0.75 * (y == "yes") + 0.25 * teacher.predict_proba(X)[:, 1])


def test_temperature_softens_the_students_probabilities(rng):
    X = rng.normal(size=(600, 2))
    teacher = LogisticRegression().fit(X, X[:, 0] > 0)
    r = scrimp.distill(teacher, LogisticRegression(C=1e6), X, temperature=4.0)
    assert np.allclose(r.student.coef_, teacher.coef_ / 4, rtol=0.02)


def test_a_report_prints_and_becomes_json(rng):
    import json

    X, y = rows_and_labels(rng)
    report = scrimp.distill(lambda rows: rows[:, 0], LinearRegression(), X, y, X_test=X, y_test=y).report
    again = json.loads(json.dumps(report.to_dict()))
    assert again["verdict"] == report.verdict
    assert "labels only" in str(report)


@pytest.mark.parametrize("kind", ["list", "pyarrow", "polars"])
def test_rows_that_weigh_nothing_are_left_out_of_every_kind_of_table(rng, kind):
    X, y = rows_and_labels(rng)
    trust = (rng.random(len(y)) < 0.5).astype(np.float64)
    table = X.tolist()
    if kind != "list":
        columns = {name: X[:, i] for i, name in enumerate("abc")}
        library = pytest.importorskip(kind)
        table = library.table(columns) if kind == "pyarrow" else library.DataFrame(columns)
    teacher = SmallRidge().fit(table, y)
    student = scrimp.distill(teacher, SmallRidge(), table, teacher_trust=trust).student
    some = SmallRidge().fit(X, y)
    alone = scrimp.distill(some, SmallRidge(), X[trust > 0]).student
    np.testing.assert_allclose(student.coef_, alone.coef_, rtol=1e-6)
    sure = LogisticRegression().fit(X, y > 0)
    classes = scrimp.distill(lambda rows: sure.predict_proba(np.asarray(rows)), LogisticRegression(), table)
    assert classes.student.predict_proba(table).shape == (len(y), 2)


def test_classes_must_be_those_of_the_teacher_and_its_answers_probabilities(rng):
    X, y = rows_and_labels(rng)
    teacher = LogisticRegression().fit(X, y > 0)
    other = np.where(y > 1, 2, y > 0)
    assert scrimp.distill(teacher, LogisticRegression(), X, other).student.n_features_in_ == 3
    with pytest.raises(ValueError, match=r"y holds classes that the teacher does not know: \[2\]"):
        scrimp.distill(teacher, LogisticRegression(), X, other, alpha=0.5)

    def logits(rows):
        return np.column_stack([-rows[:, 0], rows[:, 0]])

    with pytest.raises(ValueError, match="teacher: its answers are no probabilities"):
        scrimp.distill(logits, LogisticRegression(), X)


def test_data_frames_are_read_by_rows(rng, tmp_path):
    pd = pytest.importorskip("pandas")
    X, y = rows_and_labels(rng)
    frame = pd.DataFrame(X, columns=list("abc"))
    teacher = LinearRegression().fit(frame, y)
    r = scrimp.distill(teacher, LinearRegression(), frame, y, teacher_trust=0.1, cache=tmp_path, X_test=frame)
    assert r.report.fidelity > 0.99
    assert scrimp.distill(teacher, LinearRegression(), frame, cache=tmp_path).report.from_cache
