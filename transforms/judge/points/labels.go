package points

import (
	"strings"

	"coeval/transforms/answers"
)

// strongLabels mean a score in the languages that judges answer in.
const strongLabels = `score|rating|grade|final verdict|final tally|final mark|total number of points|number of points|
	得分|分数|分數|评分|評分|打分|评级|評級|分值|给分|スコア|得点|点数|評点|評価|採点|採点結果|評価結果|评分结果|評分結果|평가 결과|점수|평점|스코어|평가|득점|
	punktzahl|gesamtpunktzahl|endpunktzahl|bewertung|gesamtbewertung|endbewertung|gesamtnote|endnote|wertung|gesamtwertung|gesamtscore|endscore|
	puntuación|puntuacion|calificación|calificacion|puntaje|valoración|valoracion|pontuação|pontuacao|avaliação|avaliacao|classificação|puntuació|qualificació|valoració|puntuazioa|
	punteggio|valutazione|note finale|note globale|note totale|note attribuée|évaluation finale|cotation|
	оценка|балл|рейтинг|оцінка|бал|рахунок|ацэнка|оцена|резултат|skor|ocena|ocjena|wynik|punktacja|skóre|hodnocení|hodnotenie|výsledek|výsledok|známka|počet bodů|počet bodov|liczba punktów|
	betyg|poäng|slutbetyg|slutpoäng|totalpoäng|totalbetyg|bedömning|poengsum|poeng|vurdering|bedømmelse|pointtal|einkunn|pisteet|loppupisteet|kokonaispisteet|pistemäärä|arvosana|arvio|hinne|skoor|vērtējums|įvertinimas|
	beoordeling|eindscore|totaalscore|eindbeoordeling|eindcijfer|cijfer|pontszám|összpontszám|végpontszám|értékelés|osztályzat|scor|scorul|punctaj|punctajul|notă|βαθμολογία|βαθμός|σκορ|vlerësimi|
	puan|puanı|toplam puan|notu|qiymət|baho|баға|ұпай|الدرجة|النتيجة|التقييم|العلامة|درجة|نتيجة|تقييم|النقاط|امتیاز|نمره|اسکور|درجہ|ציון|ניקוד|דירוג|
	स्कोर|अंक|प्राप्तांक|रेटिंग|मूल्यांकन|गुण|স্কোর|নম্বর|রেটিং|மதிப்பெண்|ஸ்கோர்|அளவு|స్కోర్|స్కోరు|మార్కులు|ಸ್ಕೋರ್|ಅಂಕ|ಅಂಕಗಳು|സ്കോർ|സ്കോര്|മാർക്ക്|સ્કોર|ગુણ|ਸਕੋਰ|ਅੰਕ|ලකුණු|
	คะแนน|คะแนนรวม|คะแนนสุดท้าย|คะแนนทั้งหมด|คะแนนที่ได้|ຄະແນນ|ពិន្ទុ|ရမှတ်|အမှတ်|điểm|điểm số|điểm tổng|tổng điểm|số điểm|nilai|markah|skor akhir|iskor|marka|alama|შეფასება|ქულა|գնահատական|միավոր|оноо|үнэлгээ|ነጥብ|ውጤት`

// totalLabels mean a score that ends a list of points.
const totalLabels = `total|sum|grand total|suma punktów|suma bodů|součet bodů|summe der punkte|somme des points|total des points|total de puntos|total de pontos|totale punti|всего баллов|suma de puntos|soma dos pontos|somma dei punti|сумма баллов|сума балів|tổng số điểm|jumlah poin|total points|总分|總分|总得分|總得分|总计|總計|总评|合計|合計点|総合点|総得点|総計|총점|합계|총합|
	gesamt|gesamtsumme|gesamtergebnis|endergebnis|insgesamt|summe|totalt|i alt|итого|итог|всего|сумма|合计|разом|усього|підсумок|общо|укупно|ukupno|skupaj|общий балл|totale|somme|totaal|totalsumma|yhteensä|összesen|összeg|celkem|spolu|suma|razem|łącznie|
	toplam|yekun|cəmi|المجموع|مجموع|جمع|סך הכל|סה"כ|कुल|कुल योग|মোট|மொத்தம்|మొత్తం|ಒಟ್ಟು|ആകെ|કુલ|ਕੁੱਲ|รวม|รวมทั้งหมด|tổng|tổng cộng|jumlah|kabuuan|jumla|σύνολο|samtals`

// weakLabels mean a score when nothing but a number follows.
const weakLabels = `points|mark|marks|note|nota|voto|punkte|puntos|pontos|punti|punten|punkter|poin|punkty|bodovi|точки|поени|pistettä|puncte|puntuak|баллы|бали|очки|verdict|result|evaluation|assessment|judgment|judgement|final|
	overall|final answer|final result|tally|conclusion|结论|结果|結論|결과|答案|最终答案|ergebnis|résultat|resultado|risultato|результат|rezultat|resultat|resultaat|tulos|sonuç|hasil|kết quả|نقاط|परिणाम|eredmény|αποτέλεσμα|karakter|` + answers.Wrapper

func labels(kinds ...string) map[string]answers.Kind {
	out := map[string]answers.Kind{}
	for kind, words := range kinds {
		for word := range strings.SplitSeq(words, "|") {
			if word = strings.TrimSpace(word); word != "" {
				out[word] = answers.Kind(kind)
			}
		}
	}
	return out
}

var scoreLabels = labels(strongLabels, totalLabels, weakLabels)

var scoreKeys = map[string]answers.Kind{
	"score": answers.Strong, "rating": answers.Strong, "grade": answers.Strong, "overallscore": answers.Total, "overallrating": answers.Total,
	"finalscore": answers.Total, "finalrating": answers.Total, "totalscore": answers.Total, "total": answers.Total, "totalpoints": answers.Total,
	"points": answers.Weak, "result": answers.Weak, "verdict": answers.Weak, "finalgrade": answers.Total, "得分": answers.Strong, "评分": answers.Strong, "总分": answers.Total,
	"scoreoutof5": answers.Strong, "overall": answers.Weak, "answer": answers.Weak, "finalanswer": answers.Weak, "pointstotal": answers.Total, "pointsawarded": answers.Strong,
	"scoretotal": answers.Total, "scorefinal": answers.Total, "sum": answers.Total, "finalpoints": answers.Total, "mark": answers.Weak, "awardedpoints": answers.Strong,
	"分数": answers.Strong, "最终得分": answers.Total, "最终评分": answers.Total, "スコア": answers.Strong, "点数": answers.Strong, "점수": answers.Strong, "총점": answers.Total,
	"puntuación": answers.Strong, "puntuacion": answers.Strong, "punktzahl": answers.Strong, "bewertung": answers.Strong, "note": answers.Weak, "nota": answers.Weak, "оценка": answers.Strong,
}
