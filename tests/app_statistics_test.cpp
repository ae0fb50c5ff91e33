// The statistics of weft lab compare against SciPy.
#include <doctest/doctest.h>

#include <cmath>
#include <vector>

#include "weft/apps/weft/statistics.h"

using namespace weft::app;
using doctest::Approx;

// All values are of SciPy 1.17.1.

TEST_CASE("the incomplete beta function") {
  struct Row {
    double a, b, x, value;
  };
  // scipy.special.betainc
  for (const Row& r : {Row{0.5, 0.5, 0.3, 0.36901011956554536}, Row{2, 3, 0.9, 0.9963},
                       Row{10, 0.5, 0.99, 0.6579281751567845}, Row{150, 200, 0.4, 0.13980933951984723},
                       Row{0.1, 5, 0.001, 0.6128983593749946}, Row{1e4, 0.5, 0.9999, 0.1572940177633515}}) {
    CAPTURE(r.a);
    CHECK(incomplete_beta(r.a, r.b, r.x, 1 - r.x) == Approx(r.value).epsilon(1e-10));
    CHECK(incomplete_beta(r.b, r.a, 1 - r.x, r.x) == Approx(1 - r.value).epsilon(1e-10));
  }
  CHECK(incomplete_beta(2, 3, 0, 1) == 0);
  CHECK(incomplete_beta(2, 3, 1, 0) == 1);
}

TEST_CASE("Student's t: probabilities and critical values") {
  // Where x and 1 - x, each rounded, both lie beyond the turn.
  CHECK(student_t_two_sided(1.6383560438182505, 17) == doctest::Approx(0.119721607).epsilon(1e-6));

  struct Row {
    double t, dof, p;
  };
  // 2 * scipy.stats.t.sf(t, dof)
  for (const Row& r :
       {Row{0, 1, 1}, Row{1e-8, 3, 0.999999992648948}, Row{0.5, 1, 0.7048327646991335},
        Row{1, 2, 0.4226497308103742}, Row{2, 1, 0.2951672353008665}, Row{3.5, 2.7, 0.04652560492194133},
        Row{2.262157162740992, 9, 0.0500000000046757}, Row{10, 1, 0.06345103486110713},
        Row{40, 2, 0.0006244146721847406}, Row{1e3, 2, 9.999985000025e-07},
        Row{1e6, 1, 6.366197723673691e-07}, Row{12, 30, 5.580185415199261e-13},
        Row{30, 100, 8.380332558688329e-52}, Row{2, 1e5, 0.04550296345750651},
        Row{8, 4.25, 0.0010226115327706014}, Row{0.01, 1000, 0.9920232819321873}}) {
    CAPTURE(r.t);
    CAPTURE(r.dof);
    CHECK(std::abs(student_t_two_sided(r.t, r.dof) / r.p - 1) < 1e-9);
    CHECK(student_t_two_sided(-r.t, r.dof) == student_t_two_sided(r.t, r.dof));
  }
  CHECK(student_t_two_sided(INFINITY, 3) == 0);
  CHECK(student_t_two_sided(1e200, 3) == 0);
  struct Critical {
    double p, dof, t;
  };
  // scipy.stats.t.isf(p / 2, dof)
  for (const Critical& r : {Critical{0.05, 1, 12.706204736174705}, Critical{0.05, 2, 4.302652729749464},
                            Critical{0.05, 4, 2.7764451051977943}, Critical{0.05, 9, 2.2621571627982053},
                            Critical{0.05, 99, 1.9842169515864176}, Critical{0.01, 1, 63.65674116287158},
                            Critical{1e-9, 3, 1301.6371672916928}, Critical{0.5, 2.5, 0.7850136829922992},
                            Critical{0.05, 1.3, 7.500529325562036}}) {
    CAPTURE(r.dof);
    CHECK(student_t_critical(r.p, r.dof) == Approx(r.t).epsilon(1e-8));
  }
  CHECK(student_t_critical(1, 3) < 1e-7);
}

TEST_CASE("means with intervals, and differences of pairs") {
  const std::vector<double> a = {.9123, .9034, .9201, .8987, .9110}, b = {.9187, .9101, .9199, .9120, .9222};
  const PairedDifference d = paired_difference(a, b);
  // numpy's mean and std(ddof=1), scipy.stats.t.isf(.025, 4) * std / sqrt(5), ttest_rel, ttest_ind with
  // equal_var=False
  CHECK(d.n == 5);
  CHECK(d.mean == Approx(0.00748));
  CHECK(*d.deviation == Approx(0.005207398582785827));
  CHECK(*d.half_width == Approx(0.006465839344542467).epsilon(1e-9));
  CHECK(*d.p == Approx(0.032529196136625145).epsilon(1e-9));
  CHECK(*d.d_z == Approx(1.4364177969258476));
  CHECK(*d.p_welch == Approx(0.13378106612514973).epsilon(1e-9));
  const PairedDifference two = paired_difference({.71, .74}, {.69, .735});
  CHECK(*two.half_width == Approx(0.09529653552131036).epsilon(1e-9));
  CHECK(*two.p == Approx(0.34404173924526144).epsilon(1e-9));
  CHECK(*two.p_welch == Approx(0.6951179342929165).epsilon(1e-9));
}

TEST_CASE("nothing is made up where there is too little, or no variation") {
  const MeanOf none = mean_of({}), one = mean_of({0.5});
  CHECK(none.n == 0);
  CHECK_FALSE(none.deviation);
  CHECK(one.mean == 0.5);
  CHECK_FALSE(one.half_width);
  CHECK_FALSE(paired_difference({0.5}, {0.7}).p);
  // The same each time but for rounding: 0.8 - 0.7 is not 0.2 - 0.1.
  const PairedDifference same = paired_difference({.7, .1}, {.8, .2});
  CHECK(same.mean == Approx(0.1));
  CHECK_FALSE(same.p);
  CHECK_FALSE(same.d_z);
  CHECK(same.p_welch);  // the values themselves differ
  const PairedDifference flat = paired_difference({.5, .5, .5}, {.6, .6, .6});
  CHECK_FALSE(flat.p);
  CHECK_FALSE(flat.p_welch);
}

TEST_CASE("Holm's correction") {
  // statsmodels' multipletests(method="holm") gives the same
  const std::vector<double> corrected = holm({0.01, 0.04, 0.03, 0.005});
  const std::vector<double> wanted = {0.03, 0.06, 0.06, 0.02};
  for (size_t i = 0; i < wanted.size(); ++i) CHECK(corrected[i] == Approx(wanted[i]));
  CHECK(holm({0.9, 0.6}) == std::vector<double>{1, 1});
  CHECK(holm({}).empty());
}
