"""scikit-learn's random forest, on the iris data that scikit-learn ships."""

from sklearn.datasets import load_iris
from sklearn.ensemble import RandomForestClassifier


class Iris:
    """Tells the species of a flower from its measures in centimetres."""

    @classmethod
    def preload(cls):
        """Trains the forest, once: all workers share it."""
        data = load_iris()
        cls.names = [str(name) for name in data.target_names]
        # One job: threads would not survive the fork.
        cls.forest = RandomForestClassifier(n_estimators=20, random_state=0, n_jobs=1)
        cls.forest.fit(data.data, data.target)

    def __call__(self, *, sepal_length, sepal_width, petal_length, petal_width):
        flower = [[sepal_length, sepal_width, petal_length, petal_width]]
        probabilities = self.forest.predict_proba(flower)[0]
        best = int(probabilities.argmax())
        return {"species": self.names[best], "probability": float(probabilities[best])}
