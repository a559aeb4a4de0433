// Nanoseconds a sample of RTNeural's compiled models (https://github.com/jatinchowdhury18/RTNeural), as `python -m rnnfast.benchmark --set streams` measures
// rnnfast's: one input, LSTM or GRU, Dense(1), chunks of 512 samples. With RTNeural and Eigen 3.4 or newer at hand:
//
//     g++ -std=c++17 -O3 -march=native -ffast-math -DRTNEURAL_USE_EIGEN=1 -DRTNEURAL_DEFAULT_ALIGNMENT=32 -I RTNEURAL -I EIGEN bench/rtneural.cpp -o rtneural && ./rtneural
#include <RTNeural/RTNeural.h>
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <random>
#include <vector>

static std::mt19937 generator(0);

static std::vector<float> numbers(int n) {
    std::uniform_real_distribution<float> uniform(-0.3f, 0.3f);
    std::vector<float> made(n);
    for (auto &x : made) x = uniform(generator);
    return made;
}

static std::vector<std::vector<float>> matrix(int rows, int columns) {
    std::vector<std::vector<float>> made(rows);
    for (auto &row : made) row = numbers(columns);
    return made;
}

static void biases(std::vector<float> &to, int columns) { to = numbers(columns); }
static void biases(std::vector<std::vector<float>> &to, int columns) { to = matrix(2, columns); }

template <typename Layer, typename Bias, int gates, int units>
static void measure(const char *name) {
    RTNeural::ModelT<float, 1, 1, Layer, RTNeural::DenseT<float, units, 1>> model;
    auto &layer = model.template get<0>();
    auto &dense = model.template get<1>();
    Bias bias;
    biases(bias, gates * units);
    layer.setWVals(matrix(1, gates * units));
    layer.setUVals(matrix(units, gates * units));
    layer.setBVals(bias);
    dense.setWeights(matrix(1, units));
    dense.setBias(numbers(1).data());
    model.reset();
    const std::vector<float> x = numbers(512);
    std::vector<float> y(x.size());
    std::vector<double> times;
    for (int run = 0; run < 400; run++) {
        const auto begun = std::chrono::steady_clock::now();
        for (size_t i = 0; i < x.size(); i++) y[i] = model.forward(&x[i]);
        times.push_back(std::chrono::duration<double, std::nano>(std::chrono::steady_clock::now() - begun).count() / double(x.size()));
    }
    std::sort(times.begin(), times.end());
    std::printf("%s of %d units: least %.0f, median %.0f ns a sample (last output %g)\n", name, units, times[0], times[times.size() / 2], y.back());
}

template <int units>
static void both() {
    measure<RTNeural::LSTMLayerT<float, 1, units>, std::vector<float>, 4, units>("LSTM");
    measure<RTNeural::GRULayerT<float, 1, units>, std::vector<std::vector<float>>, 3, units>("GRU");
}

int main() {
    both<16>();
    both<40>();
    both<64>();
}
