"""The main job: the demo's score, its saved model and its stream."""

from rnnfast import demo


def test_demo_beats_the_naive_forecast(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # it writes forecast.png where matplotlib is installed
    assert demo.run() <= 25
    printed = capsys.readouterr().out
    assert "forecasts are identical" in printed
    assert "largest difference to the whole window 0\n" in printed
